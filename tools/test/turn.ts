/** Lets what runs side by side print one after the other: the first at once, another when all before it have ended. */
export class Turn {
  readonly #to: { write(text: string): unknown }
  /** What waits for its turn; undefined when it has come. */
  #kept: string | undefined = ''
  #ended = false
  #next: Turn | undefined

  private constructor(to: { write(text: string): unknown }) {
    this.#to = to
  }

  static inOrder(count: number, to: { write(text: string): unknown }): readonly Turn[] {
    const turns = Array.from({ length: count }, () => new Turn(to))
    for (const [index, turn] of turns.entries()) turn.#next = turns[index + 1]
    Turn.#begin(turns[0])
    return turns
  }

  write(text: string): void {
    if (this.#kept === undefined) this.#to.write(text)
    else this.#kept += text
  }

  end(): void {
    this.#ended = true
    if (this.#kept === undefined) Turn.#begin(this.#next)
  }

  static #begin(turn: Turn | undefined): void {
    if (turn === undefined) return
    turn.#to.write(turn.#kept ?? '')
    turn.#kept = undefined
    if (turn.#ended) Turn.#begin(turn.#next)
  }
}
