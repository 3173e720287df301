import type { BrokenRule } from '../problems/problem.ts'

/** Deeper than anything that people write; readers that go down by calls would fail at some thousands. */
const MOST_DEPTH = 64

const TOKEN = /[\s,:]*(?:("(?:[^"\\]|\\.)*")|([{}[\]])|(-?[0-9][0-9.eE+-]*)|[a-z]+)/y

/** A decimal number as its digits, without zeros around them, and its exponent: equal where the numbers are. */
const decimalOf = (text: string): string => {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(
    text,
  )!
  const digits = `${whole}${fraction}`.replace(/^0+/, '')
  const significant = digits.replace(/0+$/, '')
  return `${sign}${significant}e${Number(exponent) - fraction.length + digits.length - significant.length}`
}

/** Whether a reader that keeps numbers as doubles (RFC 8259, 6), as JSON.parse does, has the number as it was sent. */
const isExact = (text: string): boolean => {
  const value = Number(text)
  if (value === 0) return /^0(\.0+)?([eE].*)?$/.test(text)
  return Number.isFinite(value) && decimalOf(String(value)) === decimalOf(text)
}

/** Why Postgres, or a reader of UTF-8, cannot keep a text as it is; null where they can. */
export const unstorable = (text: string): string | null => {
  if (text.includes('\0')) return 'must not have the character U+0000'
  return text.isWellFormed() ? null : 'must not have half of a surrogate pair'
}

/**
 * What in a well-formed JSON text would not be kept as it was sent, each by its field: numbers that a double does not
 * carry, names that come twice or that JavaScript gives a meaning of their own, texts that are no Unicode or that
 * Postgres refuses. A text without any is the same content after JSON.parse and JSON.stringify.
 */
export const inexactJson = (text: string): BrokenRule[] => {
  const broken: BrokenRule[] = []
  /** The objects and lists around a place: the names seen, and the name or index that is being read. */
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
      // A name: what follows is its value.
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
    // Without a backslash it is as it came: well-formed, and without control characters.
    const why = quoted?.includes('\\') ? unstorable(JSON.parse(quoted) as string) : null
    if (why) refuse(why)
    if (inside?.seen) inside.at = null
  }
  return broken
}
