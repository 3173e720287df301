import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { StatementLine } from './statement.ts'
import { statementCsv } from './statement-csv.ts'

const statement = {
  ...{ code: 'PW-7K2M9QXA', currency: 'USD', from: '2026-01-01', to: '2026-01-31', ownerName: 'Alice Smith' },
  ...{ now: new Date(0), count: 0, opening: '0.00', sumIn: '0.00', sumOut: '0.00', closing: '0.00' },
}
const line = (over: Partial<StatementLine> = {}): StatementLine => ({
  ...{ at: new Date(0), reference: 'TXN-6J3V0G8Q2KXA', type: 'transfer', counterparty: 'Bob B.' },
  ...{ counterpartyCode: 'PW-7K2M9QXA', amount: '-1.00', balance: '0.00', note: '' },
  ...over,
})

/** Parses CSV by RFC 4180. */
const readCsv = (text: string): string[][] => {
  const rows: string[][] = [[]]
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|$)/g)) {
    if (end === '' && quoted === undefined && plain === '' && rows.at(-1)!.length === 0) break
    rows.at(-1)!.push(quoted?.replaceAll('""', '"') ?? plain!)
    if (end === '\r\n') rows.push([])
  }
  return rows.filter(row => row.length > 0)
}
const csvOf = async (pages: StatementLine[][], withMark = false) => {
  let text = ''
  for await (const piece of statementCsv(statement, pages, withMark)) text += piece
  return text
}

test('any text comes back as it was, but for the apostrophe in front of what could be a formula', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.string({ unit: fc.oneof(fc.constantFrom(...'=+-@",;|\r\n\t \'a\u200b\ufeff＝'), fc.string()) }),
      ),
      async notes => {
        const rows = readCsv(await csvOf([notes.map(note => line({ note }))]))
        const read = rows.filter(([record]) => record === 'entry').map(row => row[9]!)
        // Without the inserted apostrophes, the text equals the original.
        const stripped = (text: string) => text.replaceAll("'", '')
        expect(read.map(stripped)).toEqual(notes.map(stripped))
        // For all separators and skipped characters of spreadsheets: no cell begins with a formula.
        for (const cell of read.flatMap(note => note.split(/[,;|\t\r\n]/)))
          expect(cell).not.toMatch(/^[\s"\p{Cf}]*[=+\-@＝＋－＠]/u)
        for (const row of rows) expect(row).toHaveLength(10)
      },
    ),
  )
})

test.each(['=1+1', '+1', '-1', '@SUM(A1)', ' =1', '＝1', '\r1', '|calc'])(
  'the note %j cannot run',
  async note => {
    const [, , entry] = readCsv(await csvOf([[line({ note })]]))
    expect(entry![9]).toBe(`'${note}`)
  },
)

test.each([
  ['x;=HYPERLINK(A1);z', "x;'=HYPERLINK(A1);z"],
  ['x\t=1', "x\t'=1"],
  ['\t=1', "'\t'=1"],
  ['x,=1,+2', "x,'=1,'+2"],
  ['x\n"=1', 'x\n\'"=1'],
  ['\u200b=1', "'\u200b=1"],
  ['\ufeff＝1', "'\ufeff＝1"],
  ['"=1"', '\'"=1"'],
  ['x; ; -1', "x; ;' -1"],
  ['a=1; b', 'a=1; b'],
])('%j is %j for every spreadsheet, no matter what it splits at', async (note, harmless) => {
  const [, , entry] = readCsv(await csvOf([[line({ note })]]))
  expect(entry![9]).toBe(harmless)
})

test('all that somebody splits at is within quotes; a byte-order mark stands in front where it is asked for', async () => {
  for (const note of ['a;b', 'a\tb', 'a|b', ' a', 'a '])
    expect(await csvOf([[line({ note })]])).toContain(`"${note}"`)
  expect((await csvOf([], true)).startsWith('\ufeffrecord,')).toBe(true)
  expect((await csvOf([])).startsWith('record,')).toBe(true)
})

test('amounts are numbers and stay as they are; names are as harmless as notes', async () => {
  const [, , entry] = readCsv(await csvOf([[line({ amount: '-12.50', counterparty: '=HYPERLINK("x") B.' })]]))
  expect([entry![6], entry![4]]).toEqual(['-12.50', '\'=HYPERLINK("x") B.'])
})

test('a page is read only when the one before it was taken', async () => {
  let read = 0
  const pages = async function* () {
    for (; read < 1_000; read++) yield [line()]
  }
  const pieces = statementCsv(statement, pages())
  for (let taken = 0; taken < 4; taken++) await pieces.next()
  expect(read).toBeLessThanOrEqual(3)
  await pieces.return(undefined)
})
