import { describe, expect, test } from 'vitest'
import type { Receipt } from './describe-receipt.ts'
import { receiptPdf } from './receipt-pdf.ts'

const receipt: Receipt = {
  language: 'en',
  side: 'sender',
  transferId: '5b0e7f6c-2a43-8d9e-9c63-6f5a1c0a7f11',
  reference: 'TXN-6J3V0G8Q2KXA',
  type: 'transfer',
  amount: '1234.50',
  currency: 'USD',
  completedAt: new Date('2026-01-31T09:30:00.123Z'),
  from: { name: 'Alice Smith', walletCode: 'PW-7K2M9QXA' },
  to: { name: 'محمد ع.', walletCode: 'PW-1K2M9QX7' },
  code: '7K2M-9QXA-3BCD-EFGH-JKMN',
  checkUrl: 'https://pay.example.com/v1/receipts/verify?reference=TXN-6J3V0G8Q2KXA&code=7K2M',
}
const textOf = async (over: Partial<Receipt> = {}) =>
  Buffer.from(await receiptPdf({ ...receipt, ...over })).toString('latin1')

test('is one whole page that names its reference', async () => {
  const pdf = await textOf()
  expect(pdf.startsWith('%PDF-')).toBe(true)
  expect(pdf.trimEnd().endsWith('%%EOF')).toBe(true)
  expect([...pdf.matchAll(/\/Type \/Page\b/g)]).toHaveLength(1)
  expect(pdf).toContain('(Receipt TXN-6J3V0G8Q2KXA)')
  expect(pdf).toContain('D:20260131093000Z')
})

test('has the same bytes for the same data, and others for other data', async () => {
  const first = await textOf()
  expect(await textOf()).toBe(first)
  for (const over of [
    { amount: '1234.51' },
    { code: '7K2M-9QXA-3BCD-EFGH-JKMP' },
    { side: 'recipient' as const },
    { language: 'de' as const },
    { to: { name: 'محمد د.', walletCode: 'PW-1K2M9QX7' } },
  ]) {
    expect(await textOf(over)).not.toBe(first)
  }
})

describe('nothing breaks it, and nothing takes a second page', () => {
  test.each([
    ['a long word', 'W'.repeat(5_000)],
    ['a long Arabic name', 'محمد '.repeat(500)],
    ['many scripts', 'Владимир 田中 김철수 สมชาย राम Հայկ ܐܒܓ 👩‍👩‍👧 🫨 ﷽'],
    ['marks upon marks', `Z${'\u0337'.repeat(500)}`],
    ['what is no text', '\u0000\u202e\ud800\u2028'],
    ['nothing', ''],
  ])('%s', async (_, name) => {
    const party = { name, walletCode: 'PW-7K2M9QXA' }
    const pdf = await textOf({ from: party, to: party })
    expect([...pdf.matchAll(/\/Type \/Page\b/g)]).toHaveLength(1)
  })

  test('the largest amount, no parties and a type that is newer than this version', async () => {
    const over = { amount: '90071992547409.90', from: null, to: null, type: 'loan_repayment' }
    expect([...(await textOf(over)).matchAll(/\/Type \/Page\b/g)]).toHaveLength(1)
  })
})
