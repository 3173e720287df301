/**
 * A code as a person typed or pasted it, in one form: without white space and invisible characters, every dash a hyphen,
 * in upper case where it is ASCII. Only what is left is looked at.
 */
export const codeAsTyped = (text: string): string =>
  text
    .replace(/[\s\p{Cf}]+/gu, '')
    .replace(/\p{Pd}/gu, '-')
    // Not toUpperCase, which turns letters such as ı and ß into ASCII ones, even into two.
    .replace(/[a-z]/g, letter => letter.toUpperCase())

/** The same with Crockford's look-alikes read as the digits that they are mistaken for: O for 0, I and L for 1. */
export const crockfordAsTyped = (text: string): string => text.replaceAll('O', '0').replace(/[IL]/g, '1')
