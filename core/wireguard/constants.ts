/** Specification constants: WireGuard's paper, sections 5.4 and 6.1. Times in milliseconds. */
export const IDENTIFIER = 'WireGuard v1 zx2c4 Jason@zx2c4.com'
export const LABEL_MAC1 = 'mac1----'
export const LABEL_COOKIE = 'cookie--'

export const REKEY_AFTER_TIME = 120_000
export const REJECT_AFTER_TIME = 180_000
export const REKEY_ATTEMPT_TIME = 90_000
export const REKEY_TIMEOUT = 5_000
export const KEEPALIVE_TIMEOUT = 10_000
export const COOKIE_SECRET_MAX_AGE = 120_000

/** Implementation constants, as in Linux (drivers/net/wireguard/messages.h). */

/** A cookie is not used any more this long before its sender forgets the secret. */
export const COOKIE_LATENCY = 5_000
/** Added to every retry, so that two ends that started at once do not stay in step. */
export const MAX_JITTER = 333
/** At most 50 initiations a second are taken from one peer. */
export const INITIATION_INTERVAL = 20
/** On receiving, the initiator renews a session this old, so that it never ends before the next one is there. */
export const REKEY_ON_RECEIVE = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
/** Keys are overwritten this long after the last session was made. */
export const ZERO_KEYS_AFTER = 3 * REJECT_AFTER_TIME
/** Traffic class of handshake messages: AF41. */
export const HANDSHAKE_TOS = 0x88
