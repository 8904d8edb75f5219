import type { Finding, FindingReason } from './findings.ts'

interface Known {
  finding: Finding
  readonly since: number
  told: number | undefined
}

export interface Report {
  /** To be told now: new, or repeated after a while. */
  readonly tell: readonly Finding[]
  /** Told before, and gone. */
  readonly resolved: readonly Finding[]
}

const REPEAT_MS = 10 * 60_000

/** Remembers since when a trouble lasts, so that each is told once it has lasted long enough, and again now and then. */
export class Troubles {
  readonly #known = new Map<string, Known>()

  update(now: number, findings: readonly Finding[]): Report {
    const tell: Finding[] = []
    const current = new Map(findings.map((finding) => [finding.key, finding]))
    const resolved: Finding[] = []
    for (const [key, known] of this.#known) {
      if (current.has(key)) continue
      this.#known.delete(key)
      if (known.told !== undefined) resolved.push(known.finding)
    }
    for (const [key, finding] of current) {
      const known = this.#known.get(key) ?? { finding, since: now, told: undefined }
      known.finding = finding
      this.#known.set(key, known)
      const due = known.told === undefined ? known.since + finding.holdMs : known.told + REPEAT_MS
      if (now < due) continue
      known.told = now
      tell.push(finding)
    }
    return { tell, resolved }
  }

  /** How many are told and still there, by reason. */
  counts(): ReadonlyMap<FindingReason, number> {
    const counts = new Map<FindingReason, number>()
    for (const { finding, told } of this.#known.values()) {
      if (told !== undefined) counts.set(finding.reason, (counts.get(finding.reason) ?? 0) + 1)
    }
    return counts
  }
}
