import { eventually, type Lab } from '#test/kit/lab.ts'

/** Annotations `pellicle.io/…` by which nodes tell each other where they are. */
type Word = 'encryption-level' | 'encryption-mode' | 'ipsec-keys' | 'node-encryption'

/** What every CiliumNode says under an annotation, in the order of their names; empty where one says nothing. */
export async function announced(lab: Lab, word: Word): Promise<readonly string[]> {
  const path = `{range .items[*]}{.metadata.annotations.pellicle\\.io/${word}}{"\\n"}{end}`
  const text = await lab.sh(`kubectl get ciliumnodes -o jsonpath='${path}'`)
  return text.replace(/\n$/, '').split('\n')
}

export async function everyNodeSays(lab: Lab, word: Word, what: RegExp, nodes = 4): Promise<void> {
  await eventually(`${nodes} nodes say ${what.source} of ${word}`, 240, async () => {
    const all = await announced(lab, word)
    return all.length === nodes && all.every((text) => what.test(text)) ? true : undefined
  })
}

/** Encryption is on, or off, everywhere. */
export async function everyLevel(lab: Lab, level: 0 | 3, nodes = 4): Promise<void> {
  await everyNodeSays(lab, 'encryption-level', new RegExp(`^${level}\\.`), nodes)
}

/** Every node receives and sends by that key alone. */
export async function rotatedTo(lab: Lab, id: number, nodes = 4): Promise<void> {
  await everyNodeSays(lab, 'ipsec-keys', new RegExp(`^receives=${id}:[0-9a-f]{16} sends=${id}:[0-9a-f]{16}$`), nodes)
}
