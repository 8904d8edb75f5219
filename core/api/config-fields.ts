import { type Cidr, parseCidr } from '#core/ip/cidr.ts'
import { parseDuration } from './duration.ts'
import { parseSelector, type Selector } from './selector.ts'

/** One kind of text in a ConfigMap: how it is read and, when that fails, what would be right. */
export interface FieldType<T> {
  readonly expects: string
  /** Undefined: not of this kind. */
  readonly parse: (text: string) => T | undefined
}

export const BOOL: FieldType<boolean> = {
  expects: '"true" or "false"',
  parse: (text) => (text === 'true' ? true : text === 'false' ? false : undefined),
}

export function integer(least: number, most: number): FieldType<number> {
  return {
    expects: `a whole number from ${least} to ${most}`,
    parse: (text) => {
      const value = /^-?[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN
      return value >= least && value <= most ? value : undefined
    },
  }
}

export function oneOf<const T extends string>(...choices: readonly T[]): FieldType<T> {
  return {
    expects: choices.map((choice) => `"${choice}"`).join(' or '),
    parse: (text) => choices.find((choice) => choice === text),
  }
}

export const CIDRS: FieldType<readonly Cidr[]> = {
  expects: 'prefixes such as 10.244.0.0/16, separated by blanks or commas',
  parse: (text) => {
    const parsed = text
      .split(/[\s,]+/)
      .filter((part) => part !== '')
      .map(parseCidr)
    return parsed.every((cidr) => cidr !== undefined) ? parsed : undefined
  },
}

/** In milliseconds. */
export const DURATION: FieldType<number> = { expects: 'a duration such as 25s or 1m30s, or 0s', parse: parseDuration }

export const SELECTOR: FieldType<Selector> = {
  expects: 'a label selector such as node-role.kubernetes.io/control-plane',
  parse: parseSelector,
}

/** An absolute path. */
export const PATH: FieldType<string> = {
  expects: 'an absolute path such as /etc/ipsec/keys',
  parse: (text) => (/^\/[^\0]*$/.test(text) ? text : undefined),
}

/** As the kernel takes it (IFNAMSIZ). */
export const DEVICE: FieldType<string> = {
  expects: 'the name of a network device such as eth0',
  parse: (text) => (/^[^\s/:]{1,15}$/.test(text) ? text : undefined),
}

export interface SecretField {
  readonly name: string
  readonly field: string
}

/** `cilium-ipsec-keys/keys`: a Secret in our own namespace, and which of its fields. */
export const SECRET_FIELD: FieldType<SecretField> = {
  expects: 'a Secret and one of its fields such as cilium-ipsec-keys/keys',
  parse: (text) => {
    const match = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)\/([-._a-zA-Z0-9]{1,253})$/.exec(text)
    return match === null ? undefined : { name: match[1] as string, field: match[3] as string }
  },
}

export function formatSecretField({ name, field }: SecretField): string {
  return `${name}/${field}`
}

export const TEXT: FieldType<string> = { expects: 'a text', parse: (text) => text }

/** `1.14.5` or `1.17`: major, minor. */
export const RELEASE: FieldType<string> = {
  expects: 'a release such as 1.17 or 1.14.5',
  parse: (text) =>
    /^v?[0-9]+\.[0-9]+(\.[0-9]+)?([-+][0-9A-Za-z.-]+)?$/.test(text) ? text.replace(/^v/, '') : undefined,
}

/** `0xe00/0xf00`: bits and mask of a packet mark. Bits 14 and 15 are kube-proxy's (design: no routed packet has them). */
export const MARK: FieldType<{ readonly bits: number; readonly mask: number }> = {
  expects: 'bits/mask in hex such as 0xe00/0xf00, bits within the mask, without 0xc000',
  parse: (text) => {
    const match = /^0x([0-9a-fA-F]{1,8})\/0x([0-9a-fA-F]{1,8})$/.exec(text)
    if (match === null) return undefined
    const [bits, mask] = [Number.parseInt(match[1] as string, 16), Number.parseInt(match[2] as string, 16)]
    const within = BigInt(bits) === (BigInt(bits) & BigInt(mask))
    return bits !== 0 && within && (mask & 0xc000) === 0 ? { bits, mask } : undefined
  },
}

/** Cilium's `log-opt`: `format=json`, or the same as JSON. */
export const LOG_OPT: FieldType<'logfmt' | 'json'> = {
  expects: 'format=json or format=text',
  parse: (text) => {
    const match = /^\{?\s*"?format"?\s*[=:]\s*"?(json|json-ts|text|text-ts|logfmt)"?\s*\}?$/.exec(text)
    return match === null ? undefined : (match[1] as string).startsWith('json') ? 'json' : 'logfmt'
  },
}
