/** A generated part of a document stands between two comment lines that name it. */
export function replacePart(document: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}: generated -->\n`, `<!-- ${name}: end -->`]
  const [from, to] = [document.indexOf(begin), document.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`no part ${begin.trim()} … ${end}`)
  return document.slice(0, from + begin.length) + text + document.slice(to)
}
