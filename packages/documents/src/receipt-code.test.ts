import { describe, expect, test } from 'vitest'
import { createReceiptCodes, type ReceiptFacts } from './receipt-code.ts'

const keyOf = (byte: number) => ({ kid: `key-${byte}`, key: Buffer.alloc(32, byte) })
const codes = createReceiptCodes([keyOf(1)])
const facts: ReceiptFacts = {
  transferId: '5b0e7f6c-2a43-8d9e-9c63-6f5a1c0a7f11',
  amount: 1_250n,
  currency: 'USD',
  completedAt: new Date('2026-01-31T09:30:00.123Z'),
  side: 'sender',
}

test('a code is 20 characters that a person can type, always the same', () => {
  const code = codes.codeOf(facts)
  expect(code).toMatch(/^([0-9A-HJKMNP-TV-Z]{4}-){4}[0-9A-HJKMNP-TV-Z]{4}$/)
  expect(codes.codeOf({ ...facts })).toBe(code)
})

test('each side has a code of its own, and both are found', () => {
  const [sender, recipient] = [codes.codeOf(facts), codes.codeOf({ ...facts, side: 'recipient' })]
  expect(sender).not.toBe(recipient)
  expect(codes.sideOf(facts, sender)).toBe('sender')
  expect(codes.sideOf(facts, recipient)).toBe('recipient')
})

test('dashes, blanks, case and look-alikes do not matter', () => {
  const code = codes.codeOf(facts)
  for (const typed of [
    code.toLowerCase(),
    code.replaceAll('-', ''),
    code.replaceAll('-', ' – '),
    code.replaceAll('0', 'o').replaceAll('1', 'l'),
  ]) {
    expect(codes.sideOf(facts, typed), typed).toBe('sender')
  }
})

describe('a code is refused', () => {
  test.each<[string, Partial<ReceiptFacts>]>([
    ['of another transfer', { transferId: '5b0e7f6c-2a43-8d9e-9c63-6f5a1c0a7f12' }],
    ['of another amount', { amount: 1_251n }],
    ['of another currency', { currency: 'EUR' }],
    ['of another time', { completedAt: new Date('2026-01-31T09:30:00.124Z') }],
  ])('%s', (_, other) => {
    expect(codes.sideOf({ ...facts, ...other }, codes.codeOf(facts))).toBeUndefined()
  })

  test('with any one character changed', () => {
    const code = codes.codeOf(facts).replaceAll('-', '')
    for (let at = 0; at < code.length; at++) {
      const changed = `${code.slice(0, at)}${code[at] === 'Z' ? 'Y' : 'Z'}${code.slice(at + 1)}`
      expect(codes.sideOf(facts, changed)).toBeUndefined()
    }
  })

  test.each(['', '-', 'Z'.repeat(19), 'Z'.repeat(21), '7K2M-9QXA-3BCD-EFGH-JKM!', 'U'.repeat(20)])(
    '%j',
    code => expect(codes.sideOf(facts, code)).toBeUndefined(),
  )
})

test('after a rotation the new key makes codes, and codes of the old one are still found until it goes', () => {
  const old = codes.codeOf(facts)
  const rotated = createReceiptCodes([keyOf(2), keyOf(1)])
  expect(rotated.codeOf(facts)).not.toBe(old)
  expect(rotated.sideOf(facts, old)).toBe('sender')
  expect(rotated.sideOf(facts, rotated.codeOf(facts))).toBe('sender')
  expect(createReceiptCodes([keyOf(2)]).sideOf(facts, old)).toBeUndefined()
})
