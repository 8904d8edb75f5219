/** Asked for by `make test-all`: what takes too long for every change. */
export const SLOW = process.env['PELLICLE_SLOW_TESTS'] !== undefined

/** For `t.skip`. */
export const SLOW_HINT = 'slow: make test-all'
