// Loaded by every process of a test file (--import). Tests end what they have started when their process exits, which the default
// action of a signal does not count as: a run that is interrupted, or a file that is stopped because it hangs, would leave nodes behind.

if (process.env.NODE_TEST_CONTEXT !== undefined) {
  for (const [signal, code] of Object.entries({ SIGHUP: 129, SIGINT: 130, SIGTERM: 143 })) {
    process.once(signal, () => process.exit(code))
  }
}
