import { dirname } from 'node:path'
import {
  copyCommand,
  FORCED_ANNOTATION,
  findCommand,
  KEPT_SECRET,
  parseKeptKeys,
  secretText,
} from '#core/api/ipsec-secrets.ts'
import { SECRETS } from '#core/api/resources.ts'
import { describeFault, Fault } from '#core/fault/fault.ts'
import type { IpsecKey, KeyRef } from '#core/ipsec/key.ts'
import { parseKeyTexts, refuseWeak } from '#core/ipsec/key-text.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { Informer } from '#io/kube/informer.ts'
import { readSmallFile } from '#io/store/file.ts'
import { type FolderWatch, watchFolder } from '#io/store/watch-folder.ts'
import type { Log } from '#io/telemetry/log.ts'

/** Where this node's IPsec keys come from. */
export interface KeyNames {
  readonly namespace: string
  /** Of the user's Secret, and of the field in it. */
  readonly secret: string
  readonly field: string
  /** `ipsec-key-file`; undefined: no file is looked at. */
  readonly file: string | undefined
  /** `enable-ipsec-key-watcher`: false means that what was read first stays until the agent starts again. */
  readonly watched: boolean
}

/** What is known of the keys now. Nothing of it is ever written to a disk. */
export interface KeyReading {
  /** Of the user's newest text that was right, in its order, the current one last; undefined: none was read yet. */
  readonly current: readonly IpsecKey[] | undefined
  /** What the operator keeps, oldest first; empty when there is nothing. */
  readonly kept: readonly IpsecKey[]
  readonly retired: readonly KeyRef[]
  /** Keys come from the API: the operator decides which are used, in which order. False: from a file alone. */
  readonly operator: boolean
  /** The operator's Secret is there, be it empty. */
  readonly isKeeping: boolean
  /** {@link FORCED_ANNOTATION} on the operator's Secret. */
  readonly forced: string | undefined
  /** Why the newest text is not what counts, or why there is none; for status, events and metrics. */
  readonly problem: Fault | undefined
  /** Everything was looked for once: what is missing is really not there. */
  readonly complete: boolean
}

const NOTHING: KeyReading = {
  current: undefined,
  kept: [],
  retired: [],
  operator: true,
  isKeeping: false,
  forced: undefined,
  problem: undefined,
  complete: false,
}

type SecretObject = NonNullable<(typeof SECRETS)['shape']>

/** Between two looks at a file when nothing was told. */
const FILE_PERIOD_MS = 10_000

/**
 * Watches the user's Secret, the one that the operator keeps, and the file into which kubelet or a person puts the key.
 * The Secret counts where it is there: the file is a copy that comes later. What is wrong is told, and what was right
 * before stays.
 */
export class KeySource {
  readonly #client: KubeClient
  readonly #log: Log
  readonly #changed: () => void
  #names: KeyNames | undefined
  #user: Informer<SecretObject> | undefined
  #kept: Informer<SecretObject> | undefined
  #folder: FolderWatch | undefined
  #timer: NodeJS.Timeout | undefined
  #refused: unknown
  /** Namespaces that have a Secret of that name; undefined: not looked for yet, or this agent may not. */
  #elsewhere: readonly string[] | undefined
  #lookedElsewhere = false
  /** What the file holds; undefined: there is none. */
  #fileText: string | undefined
  #fileRead = false
  #fileFault: Fault | undefined
  #parsed = new Map<string, readonly IpsecKey[] | Fault>()
  #good: readonly IpsecKey[] | undefined
  #reading = NOTHING

  /** `changed`: {@link reading} is another one. */
  constructor(client: KubeClient, log: Log, changed: () => void) {
    this.#client = client
    this.#log = log
    this.#changed = changed
  }

  get reading(): KeyReading {
    return this.#reading
  }

  get names(): KeyNames | undefined {
    return this.#names
  }

  /** Looks there from now on. The same names again: nothing changes. */
  async follow(names: KeyNames): Promise<void> {
    if (JSON.stringify(names) === JSON.stringify(this.#names)) return
    const stopped = this.#stop()
    // before anything is waited for: asked again meanwhile, it is the same
    this.#names = names
    this.#refused = undefined
    this.#elsewhere = undefined
    this.#lookedElsewhere = false
    this.#user = this.#watch(names, names.secret)
    this.#kept = this.#watch(names, KEPT_SECRET)
    const { file } = names
    this.#fileText = undefined
    this.#fileRead = file === undefined
    if (file !== undefined) {
      // a file that is hand-distributed may come before or after its folder
      try {
        this.#folder = watchFolder(
          dirname(file),
          () => void this.#readFile(file),
          () => undefined,
        )
      } catch {
        this.#folder = undefined
      }
      this.#timer = setInterval(() => void this.#readFile(file), FILE_PERIOD_MS).unref()
      await this.#readFile(file)
    }
    this.#look()
    await stopped
  }

  /** Keys of before do not count when it follows again. */
  async close(): Promise<void> {
    const stopped = this.#stop()
    this.#good = undefined
    this.#parsed.clear()
    this.#reading = NOTHING
    await stopped
  }

  async #stop(): Promise<void> {
    this.#folder?.close()
    this.#folder = undefined
    clearInterval(this.#timer)
    const running = [this.#user, this.#kept]
    this.#user = undefined
    this.#kept = undefined
    this.#names = undefined
    for (const informer of running) await informer?.stop()
  }

  #watch({ namespace }: KeyNames, name: string): Informer<SecretObject> {
    const look = () => this.#look()
    return new Informer(this.#client, SECRETS, {
      namespace,
      fieldSelector: `metadata.name=${name}`,
      keep: essence,
      onChange: look,
      onSynced: look,
      onFailure: (error) => {
        if (!hasCode(error, 'kube.forbidden')) return
        this.#refused = error
        this.#look()
      },
    }).start()
  }

  async #readFile(path: string): Promise<void> {
    try {
      const bytes = await readSmallFile(path)
      const text = bytes === undefined ? undefined : new TextDecoder().decode(bytes)
      bytes?.fill(0)
      if (this.#names?.file !== path) return
      const same = this.#fileRead && text === this.#fileText && this.#fileFault === undefined
      this.#fileText = text
      this.#fileFault = undefined
      this.#fileRead = true
      if (!same) this.#look()
    } catch (error) {
      if (this.#names?.file !== path) return
      const before = this.#fileFault?.message
      this.#fileFault = error instanceof Fault ? error : new Fault('store.read', describeFault(error))
      this.#fileRead = true
      if (before !== this.#fileFault.message) this.#look()
    }
  }

  /** Puts together what is known. Called for each change, however small. */
  #look(): void {
    const names = this.#names
    if (names === undefined) return
    const used = new Map<string, readonly IpsecKey[] | Fault>()
    const parse = (text: string): readonly IpsecKey[] | Fault => {
      const known = used.get(text) ?? this.#parsed.get(text) ?? parsedText(text)
      used.set(text, known)
      return known
    }
    const object = this.#kept?.get(`${names.namespace}/${KEPT_SECRET}`)
    const kept = parseKeptKeys(object?.data)
    const keptKeys = (kept?.texts ?? []).map(parse).flatMap((one) => (one instanceof Fault ? [] : one))
    const { keys, problem, fromFile } = this.#userKeys(names, parse, keptKeys)
    if (keys !== undefined && (names.watched || this.#good === undefined)) this.#good = keys
    this.#parsed = used
    const before = this.#reading.problem
    this.#reading = {
      current: this.#good,
      kept: keptKeys,
      retired: kept?.retired ?? [],
      // one that keeps nothing is of a time when there was a Secret
      isKeeping: object !== undefined,
      operator: fromFile !== true || (object !== undefined && kept?.texts.length !== 0),
      forced: object?.metadata.annotations?.[FORCED_ANNOTATION],
      problem,
      complete: this.#fileRead && [this.#user, this.#kept].every((informer) => this.#isDone(informer)),
    }
    if (problem !== undefined && problem.message !== before?.message && this.#reading.complete) {
      this.#log.error(`IPsec key: ${describeFault(problem)}`)
    }
    this.#changed()
  }

  #isDone(informer: Informer<SecretObject> | undefined): boolean {
    return informer !== undefined && (informer.health().synced || this.#refused !== undefined)
  }

  #userKeys(
    names: KeyNames,
    parse: (text: string) => readonly IpsecKey[] | Fault,
    kept: readonly KeyRef[],
  ): { readonly keys?: readonly IpsecKey[]; readonly problem: Fault | undefined; readonly fromFile?: boolean } {
    const secret = this.#user?.get(`${names.namespace}/${names.secret}`)
    const where = `Secret ${names.namespace}/${names.secret}`
    if (secret !== undefined) {
      const text = secretText(secret.data, names.field)
      if (text === undefined && secret.data?.[names.field] !== undefined) {
        return {
          problem: new Fault('ipsec.key.field', `${where}: what is in field "${names.field}" is no text`, {
            field: where,
            remedy: 'Write ID[+] ALGORITHM HEX-KEY ICV-BITS; stringData takes it as it is, data takes its base64.',
          }),
        }
      }
      if (text === undefined) {
        const has = Object.keys(secret.data ?? {}).join(', ') || 'none'
        return {
          problem: new Fault('ipsec.key.field', `${where} has no field "${names.field}" (fields: ${has})`, {
            field: where,
            remedy: `Name the field ${names.field}: kubectl create secret generic --from-literal=${names.field}=….`,
          }),
        }
      }
      const parsed = parse(text)
      // of a file nobody knows whether it is new
      const weak = parsed instanceof Fault || !this.#isDone(this.#kept) ? undefined : refuseWeak(parsed, kept)
      return told(weak ?? parsed, where)
    }
    // what it held before is no answer to why it cannot be read now
    if (this.#fileFault !== undefined) return { problem: this.#fileFault, fromFile: true }
    if (this.#fileText !== undefined && this.#isDone(this.#user)) {
      return { ...told(parse(this.#fileText), names.file ?? ''), fromFile: true }
    }
    void this.#lookElsewhere(names)
    return { problem: missing(names, this.#refused, this.#elsewhere) }
  }

  /**
   * A Secret of that name in another namespace is the usual slip. The chart lets no agent see it: then it is told how to find
   * it (`cilium status` and `cilium install` look with the rights of whoever asks).
   */
  async #lookElsewhere(names: KeyNames): Promise<void> {
    if (this.#lookedElsewhere || !this.#isDone(this.#user)) return
    this.#lookedElsewhere = true
    try {
      const selection = { allNamespaces: true, fieldSelector: `metadata.name=${names.secret}` }
      const { items } = await this.#client.listAll(SECRETS, selection)
      this.#elsewhere = items.map(({ metadata }) => metadata.namespace ?? '').filter((one) => one !== names.namespace)
      if (this.#elsewhere.length > 0) this.#look()
    } catch {
      // it may not: the sentence says where to look all the same
    }
  }
}

function told(parsed: readonly IpsecKey[] | Fault, where: string) {
  if (!(parsed instanceof Fault)) return { keys: parsed, problem: undefined }
  const { code, message, field, remedy } = parsed
  const at = field === undefined ? '' : `, ${field}`
  return {
    problem: new Fault(code, `${where}${at}: ${message}`, {
      field: where,
      ...(remedy === undefined ? {} : { remedy }),
    }),
  }
}

function parsedText(text: string): readonly IpsecKey[] | Fault {
  const parsed = parseKeyTexts(text, ipsecHash)
  return parsed.ok ? parsed.value : parsed.error
}

/** What to type, in which namespace. */
function missing(
  { namespace, secret, field, file }: KeyNames,
  refused: unknown,
  elsewhere: readonly string[] | undefined,
): Fault {
  const create =
    `Create it: kubectl -n ${namespace} create secret generic ${secret} --from-literal=${field}=` +
    `"3+ rfc4106(gcm(aes)) $(openssl rand -hex 20) 128" (or: cilium encryption create-key).`
  const [first] = elsewhere ?? []
  const remedy =
    first !== undefined
      ? `Copy it: ${copyCommand(secret, field, first, namespace)}`
      : elsewhere === undefined && refused === undefined
        ? `${create} If it is there, it is in another namespace: ${findCommand(secret)}`
        : create
  const forbidden = refused === undefined ? '' : ' (and this agent may not read it: see its Role)'
  const other = first === undefined ? '' : ` (there is one in namespace ${elsewhere?.join(', ')}, which is not read)`
  const also = file === undefined ? '' : `, nor a file ${file}`
  return new Fault(
    'ipsec.key.missing',
    `there is no Secret ${secret} in namespace ${namespace}${forbidden}${also}${other}, so this node has no IPsec key`,
    { field: `${namespace}/${secret}`, remedy },
  )
}

/** Of a Secret what is read here: what `kubectl apply` wrote down beside it is the key once more. */
function essence({ metadata, data }: SecretObject): SecretObject {
  const { name, namespace, uid, resourceVersion, annotations } = metadata
  const forced = annotations?.[FORCED_ANNOTATION]
  return {
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(forced === undefined ? {} : { annotations: { [FORCED_ANNOTATION]: forced } }),
    },
    ...(data === undefined ? {} : { data }),
  }
}
