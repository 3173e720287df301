/**
 * Normalises a code that a person typed or pasted: removes white space and invisible characters, turns every dash into
 * a hyphen, upper-cases ASCII letters. Callers parse only the result.
 */
export const codeAsTyped = (text: string): string =>
  text
    .replace(/[\s\p{Cf}]+/gu, '')
    .replace(/\p{Pd}/gu, '-')
    // Not toUpperCase: it turns letters such as ı and ß into ASCII letters, even into two.
    .replace(/[a-z]/g, letter => letter.toUpperCase())

/** Replaces Crockford's look-alikes by the digits that they are mistaken for: O by 0, I and L by 1. */
export const crockfordAsTyped = (text: string): string => text.replaceAll('O', '0').replace(/[IL]/g, '1')
