import type { BrokenRule } from '../problems/problem.ts'

/** Deeper than any body that people write; recursive readers would fail at some thousands. */
const MOST_DEPTH = 64

const TOKEN = /[\s,:]*(?:("(?:[^"\\]|\\.)*")|([{}[\]])|(-?[0-9][0-9.eE+-]*)|[a-z]+)/y

/** A decimal number as its digits, without surrounding zeros, and its exponent: the same for equal numbers. */
const decimalOf = (text: string): string => {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(
    text,
  )!
  const digits = `${whole}${fraction}`.replace(/^0+/, '')
  const significant = digits.replace(/0+$/, '')
  return `${sign}${significant}e${Number(exponent) - fraction.length + digits.length - significant.length}`
}

/** Whether a reader that stores numbers as doubles (RFC 8259, 6), such as JSON.parse, keeps the number exactly. */
const isExact = (text: string): boolean => {
  const value = Number(text)
  if (value === 0) return /^0(\.0+)?([eE].*)?$/.test(text)
  return Number.isFinite(value) && decimalOf(String(value)) === decimalOf(text)
}

/** The reason why Postgres or a UTF-8 reader cannot store a text unchanged; null if both can. */
export const unstorable = (text: string): string | null => {
  if (text.includes('\0')) return 'must not have the character U+0000'
  return text.isWellFormed() ? null : 'must not have half of a surrogate pair'
}

/**
 * Everything in a well-formed JSON text that would not be kept exactly as sent, by field: numbers beyond a double,
 * duplicate names, names with a meaning of their own in JavaScript, texts that are not Unicode or that Postgres
 * refuses. A text without any has the same content after JSON.parse and JSON.stringify.
 */
export const inexactJson = (text: string): BrokenRule[] => {
  const broken: BrokenRule[] = []
  /** The enclosing objects and lists: the names seen, and the name or index that is being read. */
  const around: Array<{ seen: Set<string> | null; at: string | number | null }> = []
  const refuse = (rule: string) =>
    broken.push({ field: around.flatMap(({ at }) => at ?? []).join('.') || 'body', rule })

  TOKEN.lastIndex = 0
  for (let token = TOKEN.exec(text); token; token = TOKEN.exec(text)) {
    const [, quoted, bracket, number] = token
    if (bracket === '}' || bracket === ']') {
      around.pop()
      const parent = around.at(-1)
      if (parent?.seen) parent.at = null
      continue
    }
    const inside = around.at(-1)
    if (inside?.seen && inside.at === null) {
      // A member name: its value follows.
      const name = JSON.parse(quoted!) as string
      inside.at = name
      if (inside.seen.has(name)) refuse('is given twice')
      if (name === '__proto__') refuse('is a name that is not taken')
      const why = unstorable(name)
      if (why) refuse(why)
      inside.seen.add(name)
      continue
    }
    if (typeof inside?.at === 'number') inside.at++
    if (bracket) {
      around.push({ seen: bracket === '{' ? new Set() : null, at: bracket === '{' ? null : -1 })
      if (around.length > MOST_DEPTH) {
        broken.push({ field: 'body', rule: `must not be nested more than ${MOST_DEPTH} deep` })
        return broken
      }
      continue
    }
    if (number && !isExact(number)) {
      refuse('is a number with more digits or range than JSON readers keep; send it as a string')
    }
    // A string without a backslash is unchanged from the body: well-formed, and without control characters.
    const why = quoted?.includes('\\') ? unstorable(JSON.parse(quoted) as string) : null
    if (why) refuse(why)
    if (inside?.seen) inside.at = null
  }
  return broken
}
