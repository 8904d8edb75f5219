export type Paint = (text: string, colour: Colour) => string
type Colour = 'red' | 'green' | 'yellow' | 'cyan' | 'bold'

const CODES: Readonly<Record<Colour, number>> = { red: 31, green: 32, yellow: 33, cyan: 36, bold: 1 }

/** Paints only on a terminal, and never when NO_COLOR is set (no-color.org). */
export function painter(terminal: boolean, env: Readonly<Record<string, string | undefined>>): Paint {
  const none = !terminal || (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb'
  return none ? (text) => text : (text, colour) => `\u001b[${CODES[colour]}m${text}\u001b[0m`
}
