import { expect, test } from 'vitest'
import { receiptTime, receiptWords, typeWords } from './receipt-words.ts'
import { LANGUAGES } from './render-notice.ts'

/** The text of every leaf, by its path. */
const leaves = (words: object, path = ''): Array<[string, string]> =>
  Object.entries(words).flatMap(([name, value]) =>
    typeof value === 'string' ? [[`${path}${name}`, value]] : leaves(value, `${path}${name}.`),
  )

test.each(LANGUAGES)('%s has a word for everything, and a type for each that English has', language => {
  const words = leaves(receiptWords(language))
  expect(words.map(([path]) => path)).toEqual(leaves(receiptWords('en')).map(([path]) => path))
  for (const [path, text] of words) expect(text.trim(), path).not.toBe('')
})

test('a type that is newer than this version is shown as it is', () => {
  expect(typeWords('de', 'withdrawal')).toBe('Auszahlung')
  expect(typeWords('de', 'loan_repayment')).toBe('loan repayment')
})

test('a time has the same characters in every language', () => {
  expect(receiptTime(new Date('2026-01-31T09:30:00.999Z'))).toBe('2026-01-31 09:30:00 UTC')
})
