import type { Place, Role } from '#core/engine/request.ts'

/** What the keeper remembers of a session whose keys the engine has. Times in milliseconds, monotonic. */
export interface Session {
  readonly local: number
  readonly remote: number
  readonly role: Role
  readonly born: number
}

/**
 * The sessions of one peer, moved between their places exactly as the engine moves them (docs/protocol/engine.md), so that
 * indices are free again when no packet can carry them.
 */
export class Sessions {
  readonly #release: (local: number) => void
  readonly #places = new Map<Place, Session>()

  constructor(release: (local: number) => void) {
    this.#release = release
  }

  get current(): Session | undefined {
    return this.#places.get('current')
  }

  get next(): Session | undefined {
    return this.#places.get('next')
  }

  /** As initiator: the present current one becomes previous, next goes. */
  setCurrent(session: Session): void {
    this.#put('next', undefined)
    this.#put('previous', this.#take('current'))
    this.#put('current', session)
  }

  /** As responder: waits for its first packet. */
  setNext(session: Session): void {
    this.#put('next', session)
  }

  /** The engine saw the first packet on `local`. False when that is not the next session (any more). */
  confirm(local: number): boolean {
    if (this.next?.local !== local) return false
    this.#put('previous', this.#take('current'))
    this.#put('current', this.#take('next'))
    return true
  }

  /** All that a running engine has; true when one that we counted on was not among them. */
  replace(sessions: readonly (readonly [Place, Session])[]): boolean {
    const locals = new Set(sessions.map(([, session]) => session.local))
    const lost = [...this.#places].filter(([, session]) => !locals.has(session.local))
    for (const [place] of lost) this.#put(place, undefined)
    this.#places.clear()
    for (const [place, session] of sessions) this.#places.set(place, session)
    return lost.some(([place]) => place !== 'previous')
  }

  has(local: number): boolean {
    return [...this.#places.values()].some((session) => session.local === local)
  }

  clear(): void {
    for (const place of ['previous', 'current', 'next'] as const) this.#put(place, undefined)
  }

  #take(place: Place): Session | undefined {
    const session = this.#places.get(place)
    this.#places.delete(place)
    return session
  }

  #put(place: Place, session: Session | undefined): void {
    const old = this.#places.get(place)
    if (session === undefined) this.#places.delete(place)
    else this.#places.set(place, session)
    if (old !== undefined && old.local !== session?.local) this.#release(old.local)
  }
}
