//! The authority: an account with it, and orders by HTTP-01. Everything goes by `kit::outbound`, with its bounds.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::http::{Request, Response};
use bytes::Bytes;
use contract::secrets::SecretStore;
use gateway::{Challenges, PendingChallenge};
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error,
    ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use kit::outbound::{Limits, Outbound, OutboundPolicy, OutboundRequest, OutboundUrl};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::kept::Place;
use crate::config::AcmeSettings;

/// Of one request. A chain has some KiB.
const LIMITS: Limits = Limits { deadline: Duration::from_secs(30), max_answer_bytes: 48 << 10 };

/// How an order is looked at while the authority works on it.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

/// Most of what an authority says that is shown.
const SHOWN_CHARACTERS: usize = 500;

const NO_SUCH_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// An authority, as the configuration names it.
pub(super) struct Authority {
    settings: AcmeSettings,
    secrets: Arc<dyn SecretStore>,
    challenges: Challenges,
    outbound: Arc<Outbound>,
    account: Option<Place<KeptAccount>>,
}

/// What it gave, as PEM.
pub(super) struct Obtained {
    pub(super) chain: String,
    pub(super) key: String,
}

#[derive(Serialize, Deserialize)]
struct KeptAccount {
    directory: String,
    credentials: serde_json::Value,
}

/// Sends for `instant_acme`.
struct Sender(Arc<Outbound>);

// === impl Authority ===

impl Authority {
    /// Reads the roots that are trusted, in which it blocks for some milliseconds.
    pub(super) fn new(
        settings: &AcmeSettings,
        secrets: Arc<dyn SecretStore>,
        challenges: Challenges,
    ) -> anyhow::Result<Self> {
        // It is the configuration that names it, so it may be in a private network.
        let host = settings.directory.host().trim_matches(['[', ']']).to_owned();
        let policy = Arc::new(OutboundPolicy::parse([host]).context("allow the authority's host")?);
        let outbound = match &settings.directory_ca {
            Some(ca) => Outbound::with_roots(policy, &ca.pem)
                .with_context(|| format!("read {} (tls.acme.directory_ca)", ca.path.display()))?,
            None => Outbound::new(policy),
        };
        let outbound = Arc::new(outbound);
        Ok(Self { settings: settings.clone(), secrets, challenges, outbound, account: None })
    }

    /// The account: the one that is kept, or a new one. Its directory is read anew each time.
    pub(super) async fn account(&mut self) -> anyhow::Result<Account> {
        if self.account.is_none() {
            self.account = Some(Place::open(&*self.secrets, "acme_account".to_owned()).await?);
        }
        let place = self.account.as_mut().expect("it was opened");
        let directory = self.settings.directory.to_string();
        let builder = Account::builder_with_http(Box::new(Sender(self.outbound.clone())));
        if let Some(kept) = place.value.as_ref().filter(|kept| kept.directory == directory) {
            let credentials =
                AccountCredentials::deserialize(&kept.credentials).context("read the account")?;
            return builder.from_credentials(credentials).await.context("read the authority's directory");
        }
        let contact = self.settings.email.as_ref().map(|email| format!("mailto:{email}"));
        let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
        let account = NewAccount {
            contact: &contacts,
            // The configuration is refused without it.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let binding = self.settings.binding.as_ref();
        let binding = binding.map(|binding| ExternalAccountKey::new(binding.id.clone(), &binding.key));
        let (account, credentials) = builder
            .create(&account, directory.clone(), binding.as_ref())
            .await
            .context("open an account with the authority")?;
        let credentials = serde_json::to_value(&credentials).context("write the account as JSON")?;
        place
            .keep(&*self.secrets, KeptAccount { directory, credentials })
            .await
            .context("keep the account")?;
        info!("opened an account with a certificate authority");
        Ok(account)
    }

    /// Proves that this host leads here, and has a certificate signed for a new key.
    pub(super) async fn obtain(&mut self, account: &Account, host: &str) -> anyhow::Result<Obtained> {
        let identifiers = [Identifier::Dns(host.to_owned())];
        let ordered = account.new_order(&NewOrder::new(&identifiers)).await;
        if is_unknown_account(&ordered) {
            // It is of no use any more, as where an authority has lost its data: the next attempt opens another.
            self.forget_account().await?;
        }
        let mut order = ordered.context("order a certificate")?;
        let _pending = self.answer(&mut order).await?;
        let status = order.poll_ready(&POLLING).await.context("wait for the authority to look at the proof");
        if !matches!(status, Ok(OrderStatus::Ready)) {
            let why = refusal(&mut order).await;
            return Err(status.err().unwrap_or_else(|| anyhow!("the authority took no proof"))).context(why);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("make a key")?;
        let mut params = CertificateParams::new([host.to_owned()]).context("name the host")?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).context("sign the request")?;
        order.finalize_csr(request.der()).await.context("ask for the certificate")?;
        let chain = order.poll_certificate(&POLLING).await.context("fetch the certificate")?;
        Ok(Obtained { chain, key: key.serialize_pem() })
    }

    /// Answers the order's challenges, and says so. They are answered until what this gives is dropped.
    async fn answer(&self, order: &mut Order) -> anyhow::Result<Vec<PendingChallenge>> {
        let mut pending = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.context("read what is to be proved")?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => (),
                other => bail!("what is to be proved is {other:?}"),
            }
            let mut challenge = authorization
                .challenge(ChallengeType::Http01)
                .context("the authority takes no proof by HTTP")?;
            let answer = challenge.key_authorization();
            let answered = self.challenges.answer(&challenge.token, answer.as_str());
            pending.push(answered.context("the authority's challenge cannot be answered")?);
            challenge.set_ready().await.context("say that the proof is there")?;
        }
        Ok(pending)
    }

    async fn forget_account(&mut self) -> anyhow::Result<()> {
        if let Some(place) = &mut self.account {
            let nothing = KeptAccount { directory: String::new(), credentials: serde_json::Value::Null };
            place.keep(&*self.secrets, nothing).await.context("forget the account")?;
        }
        Ok(())
    }
}

fn is_unknown_account(ordered: &Result<Order, Error>) -> bool {
    matches!(ordered, Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_SUCH_ACCOUNT))
}

/// What the authority has against the proofs.
async fn refusal(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return format!("the authority refused the proof: {problem}");
        }
    }
    "the authority says nothing of the proof".to_owned()
}

/// An error with its causes. What an authority says is shortened, and has no line ends.
pub(super) fn shown(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let clean = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().take(SHOWN_CHARACTERS).map(clean).collect()
}

// === impl Sender ===

impl HttpClient for Sender {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let outbound = self.0.clone();
        Box::pin(async move { send(&outbound, request).await.map_err(|error| Error::Other(error.into())) })
    }
}

async fn send(outbound: &Outbound, request: Request<BodyWrapper<Bytes>>) -> anyhow::Result<BytesResponse> {
    let (head, body) = request.into_parts();
    let url = OutboundUrl::parse(&head.uri.to_string())?;
    // RFC 8555, 6.1. The directory's is looked at with the configuration.
    if url.scheme() != "https" {
        bail!("the authority names a URL without TLS");
    }
    let Ok(body) = body.collect().await;
    let request =
        OutboundRequest { method: head.method, url: &url, headers: head.headers, body: body.to_bytes() };
    let answer = outbound.send(request, LIMITS).await?;
    if answer.is_cut {
        bail!("the authority's answer is too long");
    }
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(BytesResponse::from(response))
}
