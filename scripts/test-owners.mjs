import hooks, { executionAsyncId, executionAsyncResource } from 'node:async_hooks'

const owner = Symbol('test')

/**
 * An error that nobody waits for fails the test that it comes from. node:test finds that test in a table of everything asynchronous, and
 * asks to be told when each promise is collected, which costs more than most of what tests do with promises. Here what is asynchronous
 * carries the number of its test itself, as AsyncLocalStorage does it, and the table learns it when an error has come. The errors
 * and what they fail stay the same. A Node.js whose runner goes about it otherwise is left as it is.
 */
export function carryTests() {
  const { createHook } = hooks
  hooks.createHook = (callbacks) => {
    if (Object.keys(callbacks).join() !== 'init,destroy' || Object.getPrototypeOf(callbacks) !== null) {
      return createHook(callbacks)
    }
    hooks.createHook = createHook
    const { init } = callbacks
    const learn = () => {
      const test = executionAsyncResource()[owner]
      if (test !== undefined) init(executionAsyncId(), 'error', test, {})
    }
    // In front of the runner's own listeners, which come later.
    process.on('uncaughtException', learn)
    process.on('unhandledRejection', learn)
    return createHook({
      init(asyncId, type, triggerAsyncId, resource) {
        if (type === 'Test') {
          init(asyncId, type, triggerAsyncId, resource)
          resource[owner] = asyncId
        } else resource[owner] = executionAsyncResource()[owner]
      },
    })
  }
}
