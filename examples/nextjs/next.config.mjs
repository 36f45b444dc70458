/** Everything lies below /app/, as the gateway's route has it. */
export default { basePath: '/app', poweredByHeader: false };
