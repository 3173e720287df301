import { expect, test } from 'vitest'
import type { StatementLine } from './statement.ts'
import { pagesFor, statementPdf } from './statement-pdf.ts'

const statement = {
  ...{ code: 'PW-7K2M9QXA', currency: 'USD', from: '2026-01-01', to: '2026-01-31', now: new Date(0) },
  ...{ opening: '0.00', sumIn: '0.00', sumOut: '0.00', closing: '0.00' },
}
const line = (over: Partial<StatementLine> = {}): StatementLine => ({
  ...{ at: new Date(0), reference: 'TXN-6J3V0G8Q2KXA', type: 'transfer', counterparty: 'Bob B.' },
  ...{ counterpartyCode: 'PW-7K2M9QXA', amount: '-1.00', balance: '90071992547409.90', note: '' },
  ...over,
})
async function* pagesOf(lines: StatementLine[]) {
  for (let from = 0; from < lines.length; from += 7) yield lines.slice(from, from + 7)
}
const pdfOf = async (lines: StatementLine[], ownerName = 'Alice Smith') => {
  const pieces: Buffer[] = []
  for await (const piece of statementPdf({ ...statement, ownerName, count: lines.length }, pagesOf(lines)))
    pieces.push(piece)
  return Buffer.concat(pieces).toString('latin1')
}
const pagesIn = (pdf: string) => [...pdf.matchAll(/\/Type \/Page\b/g)].length

test.each([0, 1, 20, 21, 22, 23, 48, 49, 50, 51, 52, 120])(
  '%i lines have as many pages as it says',
  async count => {
    const pdf = await pdfOf(Array.from({ length: count }, () => line()))
    expect(pdf.startsWith('%PDF-')).toBe(true)
    expect(pdf.trimEnd().endsWith('%%EOF')).toBe(true)
    expect(pagesIn(pdf)).toBe(pagesFor(count))
  },
)

test('letters of any script, and texts of any length, break nothing', async () => {
  const names = [
    'Владимир П.',
    '田中 太.',
    'محمد ع.',
    'Δημήτρης Π.',
    '👩‍👩‍👧 😀.',
    '\u0000\u202e\ud800',
    'W'.repeat(5_000),
    '',
  ]
  const pdf = await pdfOf(
    names.map(name => line({ counterparty: name, note: name })),
    names.join(' '),
  )
  expect(pagesIn(pdf)).toBe(1)
})

test('an error while reading is an error of the stream; to stop listening stops the reading', async () => {
  const failing = async function* () {
    yield [line()]
    throw new Error('the database is away')
  }
  const whole = async () => {
    for await (const _ of statementPdf({ ...statement, ownerName: '', count: 2 }, failing()));
  }
  await expect(whole()).rejects.toThrow('the database is away')

  let ended = () => {}
  const over = new Promise<void>(resolve => {
    ended = resolve
  })
  const endless = async function* () {
    try {
      for (;;) yield Array.from({ length: 100 }, () => line())
    } finally {
      ended()
    }
  }
  const stream = statementPdf({ ...statement, ownerName: '', count: 10_000 }, endless())
  stream.once('data', () => stream.destroy())
  await over
})
