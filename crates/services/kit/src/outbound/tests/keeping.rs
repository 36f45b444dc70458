//! Connections that are kept, and how many there may be.

use super::*;

/// A server that answers every request, and says of each on which connection it came.
async fn serve_all() -> (u16, mpsc::Receiver<usize>) {
    let (tx, rx) = mpsc::channel(100);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let connections = AtomicUsize::new(0);
        while let Ok((mut stream, _)) = listener.accept().await {
            let (tx, connection) = (tx.clone(), connections.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(async move {
                while read_request(&mut stream).await.is_some() {
                    tx.send(connection).await.unwrap();
                    if stream.write_all(OK).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (port, rx)
}

/// Lets the client's tasks see what the system has for them.
async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (port, mut used) = serve_all().await;
    let (client, url) = (client(), url("http", "127.0.0.1", port));
    for _ in 0..3 {
        send(&client, &url, LONG).await.unwrap();
        assert_eq!(used.recv().await.unwrap(), 0);
        settle().await;
    }
}

#[tokio::test]
async fn a_kept_connection_that_its_peer_closed_costs_no_request() {
    let (tx, mut closed) = mpsc::channel(2);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK).await.unwrap();
            drop(stream);
            tx.send(()).await.unwrap();
        }
    });
    let (client, url) = (client(), url("http", "127.0.0.1", port));
    for _ in 0..2 {
        assert_eq!(send(&client, &url, LONG).await.unwrap().body, "ok");
        closed.recv().await.unwrap();
        settle().await;
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let (tx, mut rx) = mpsc::channel(9);
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut is_first = true;
            while read_request(&mut stream).await.is_some() {
                tx.send(()).await.unwrap();
                if !is_first {
                    break;
                }
                stream.write_all(OK).await.unwrap();
                is_first = false;
            }
        }
    });
    let (client, url) = (client(), url("http", "127.0.0.1", port));
    send(&client, &url, LONG).await.unwrap();
    settle().await;
    assert_eq!(failure(&client, &url, LONG).await.kind(), "bad_answer");
    drop(client);
    settle().await;
    assert_eq!(rx.len(), 2);
    rx.recv().await.unwrap();
}

#[tokio::test]
async fn connections_end_with_the_client() {
    let (tx, mut rx) = mpsc::channel(1);
    let port = serve_one(|mut stream| async move {
        stream.write_all(OK).await.unwrap();
        read_to_end(&mut stream).await;
        tx.send(()).await.unwrap();
    })
    .await;
    let client = client();
    send(&client, &url("http", "127.0.0.1", port), LONG).await.unwrap();
    settle().await;
    assert!(rx.is_empty());
    drop(client);
    rx.recv().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_ends_in_time() {
    let (tx, mut rx) = mpsc::channel(1);
    let port = serve_one(|mut stream| async move {
        stream.write_all(OK).await.unwrap();
        read_to_end(&mut stream).await;
        tx.send(()).await.unwrap();
    })
    .await;
    let client = bounded_client(Bounds { idle: Duration::from_millis(100), ..BOUNDS });
    send(&client, &url("http", "127.0.0.1", port), LONG).await.unwrap();
    rx.recv().await.unwrap();
}

#[tokio::test]
async fn who_finds_no_free_connection_waits_within_his_deadline() {
    let (tx, mut is_read) = mpsc::channel(1);
    let hanging = serve_one(|mut stream| async move {
        tx.send(()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    let client = bounded_client(Bounds { max_connections: 1, ..BOUNDS });
    let (port, _used) = serve_all().await;
    let (slow, quick) = (url("http", "127.0.0.1", hanging), url("http", "127.0.0.1", port));
    {
        let mut holding = Box::pin(send(&client, &slow, LONG));
        tokio::select! {
            _ = &mut holding => panic!("nobody answers"),
            _ = is_read.recv() => (),
        }
        assert_eq!(failure(&client, &quick, SHORT).await.kind(), "deadline");
    }
    assert_eq!(send(&client, &quick, LONG).await.unwrap().body, "ok");
}
