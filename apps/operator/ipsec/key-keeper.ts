import type { SecretField } from '#core/api/config-fields.ts'
import {
  FORCED_ANNOTATION,
  formatKeptKeys,
  KEPT_SECRET,
  type KeptKeys,
  parseKeptKeys,
  ROTATION_BEGAN_ANNOTATION,
  secretText,
} from '#core/api/ipsec-secrets.ts'
import { SECRETS } from '#core/api/resources.ts'
import { describeFault } from '#core/fault/fault.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import type { RotationPeer } from '#core/transition/rotation.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import type { EventRecorder } from '#io/kube/events.ts'
import { Informer } from '#io/kube/informer.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { OperatorMetrics } from '../metrics.ts'
import { type KeepOutcome, keep } from './keep.ts'
import { KeyNews } from './key-news.ts'

type SecretObject = NonNullable<(typeof SECRETS)['shape']>

export interface KeyKeeperOptions {
  readonly client: KubeClient
  readonly namespace: string
  readonly secret: SecretField
  /** IPsec is asked for; else what was kept is looked after until nobody uses it. */
  readonly wanted: boolean
  readonly userspace: boolean
  readonly recorder: EventRecorder
  readonly log: Log
  readonly metrics: OperatorMetrics
  /** What the nodes of the cluster say; undefined while that may be old. */
  readonly nodes: () => readonly RotationPeer[] | undefined
}

/** Between two looks when nothing changes, and after a write that failed. */
const PERIOD_MS = 5000
const RETRY_MS = 200

const OUR_LABELS = { 'app.kubernetes.io/part-of': 'cilium', 'app.kubernetes.io/managed-by': 'cilium-operator' }

/**
 * Keeps Secret `pellicle-ipsec-keys`: the key texts that are alive, by what the user's Secret and the nodes say
 * (core/transition/rotation-operator.ts). It writes only over the version that it read, so that no two operators undo
 * each other, and never because something is missing: what cannot be read leaves everything as it is. Where IPsec is off it
 * makes no Secret, and lets go of a key that nobody uses and the user has no more.
 */
export class KeyKeeper {
  readonly #options: KeyKeeperOptions
  readonly #news: KeyNews
  readonly #user: Informer<SecretObject>
  readonly #kept: Informer<SecretObject>
  readonly #stopping = new AbortController()
  #wake = Promise.withResolvers<void>()
  #running: Promise<void> | undefined
  /** What was written or read last: should somebody spoil the Secret, it is written again. */
  #last: KeptKeys = { texts: [], retired: [] }

  constructor(options: KeyKeeperOptions) {
    this.#options = options
    this.#news = new KeyNews(options)
    this.#user = this.#watch(options.secret.name)
    this.#kept = this.#watch(KEPT_SECRET)
  }

  start(): this {
    this.#running ??= this.#run()
    return this
  }

  /** What nodes say has changed. */
  poke(): void {
    this.#wake.resolve()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.poke()
    await Promise.all([this.#running, this.#user.stop(), this.#kept.stop()])
    this.#last = { texts: [], retired: [] }
  }

  #watch(name: string): Informer<SecretObject> {
    const { client, namespace, log } = this.#options
    return new Informer(client, SECRETS, {
      namespace,
      fieldSelector: `metadata.name=${name}`,
      onChange: () => this.poke(),
      onFailure: (error) => log.warn('Secret not watched', { name, error: describeFault(error) }),
    })
  }

  async #run(): Promise<void> {
    const { client, log } = this.#options
    const { signal } = this.#stopping
    this.#user.start()
    this.#kept.start()
    // either may be rejected by stop()
    await Promise.all([this.#user.synced, this.#kept.synced]).catch(() => undefined)
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers<void>()
      let pause = PERIOD_MS
      try {
        await this.#look()
      } catch (error) {
        if (signal.aborted) break
        // somebody wrote meanwhile: the watch brings it
        pause = RETRY_MS
        if (!hasCode(error, 'kube.conflict') && !hasCode(error, 'kube.already-exists')) {
          pause = PERIOD_MS
          log.warn('IPsec keys not kept', { error: describeFault(error) })
        }
      }
      await Promise.race([this.#wake.promise, client.clock.sleep(pause, signal).catch(() => undefined)])
    }
  }

  async #look(): Promise<void> {
    const { secret, namespace, userspace, wanted } = this.#options
    const nodes = this.#options.nodes()
    const stale = [this.#user, this.#kept].some((informer) => informer.health().staleMs > 0)
    if (nodes === undefined || stale) return
    const user = this.#user.get(`${namespace}/${secret.name}`)
    const object = this.#kept.get(`${namespace}/${KEPT_SECRET}`)
    const read = parseKeptKeys(object?.data)
    const isLost = this.#last.texts.length > 0 && (read === undefined || !isSound(read))
    const kept = isLost ? this.#last : (read ?? this.#last)
    this.#last = kept
    const forced = object?.metadata.annotations?.[FORCED_ANNOTATION]
    const outcome = keep({ userText: secretText(user?.data, secret.field), kept, wanted, forced, nodes, userspace })
    // deleted or spoiled: written again as it was
    const next = outcome.next ?? (isLost ? kept : undefined)
    if (next !== undefined) {
      await this.#write(object, next, outcome)
      this.#last = next
    }
    await this.#news.tell(user, outcome, nodes.length, this.#stopping.signal)
  }

  async #write(object: SecretObject | undefined, next: KeptKeys, outcome: KeepOutcome): Promise<void> {
    const { client, namespace } = this.#options
    const scope = { namespace, signal: this.#stopping.signal }
    const annotations = { ...object?.metadata.annotations }
    if (outcome.forcedIsOver) delete annotations[FORCED_ANNOTATION]
    if (next.texts.length < 2) delete annotations[ROTATION_BEGAN_ANNOTATION]
    else if (outcome.added.length > 0 || annotations[ROTATION_BEGAN_ANNOTATION] === undefined) {
      annotations[ROTATION_BEGAN_ANNOTATION] = new Date(client.clock.now()).toISOString()
    }
    const metadata = { ...object?.metadata, name: KEPT_SECRET, namespace, annotations }
    const secret: SecretObject = {
      metadata: { ...metadata, labels: { ...object?.metadata.labels, ...OUR_LABELS } },
      type: 'Opaque',
      data: formatKeptKeys(next),
    }
    if (object === undefined) await client.create(SECRETS, secret, scope)
    else await client.replace(SECRETS, secret, scope)
  }
}

/** There is a key for as long as there was one. */
function isSound({ texts }: KeptKeys): boolean {
  return texts.length > 0 && texts.every((text) => parseKeyTexts(text, ipsecHash).ok)
}
