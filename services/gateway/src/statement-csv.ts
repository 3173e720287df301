import type { Statement, StatementLine } from './statement.ts'

const COLUMNS = [
  'record',
  'date',
  'reference',
  'type',
  'counterparty',
  'counterparty_code',
  'amount',
  'balance',
  'currency',
  'note',
] as const
type Row = { record: string; currency: string } & Partial<Record<(typeof COLUMNS)[number], string>>

/** What spreadsheets take for the beginning of a formula, also behind white space and in full width. */
const FORMULA = /^\s*[=+\-@＝＋－＠|%]|^[\t\r\n]/

/** A text that somebody wrote: an apostrophe in front keeps a spreadsheet from running it. */
const harmless = (text: string): string => (FORMULA.test(text) ? `'${text}` : text)

/** A field by RFC 4180: quoted where it must be. */
const field = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)

const rowText = (row: Row): string => `${COLUMNS.map(column => field(row[column] ?? '')).join(',')}\r\n`

/**
 * A statement as CSV (RFC 4180), in pieces: the column names, a record `opening_balance`, an `entry` for each line, then
 * `sum_in`, `sum_out` and `closing_balance`. One that lacks the last record was cut off.
 */
export async function* statementCsv(
  statement: Statement,
  pages: AsyncIterable<StatementLine[]> | Iterable<StatementLine[]>,
): AsyncGenerator<string> {
  const { currency, from, to } = statement
  yield `${COLUMNS.join(',')}\r\n${rowText({ record: 'opening_balance', date: from, balance: statement.opening, currency })}`
  for await (const lines of pages) {
    yield lines
      .map(line =>
        rowText({
          record: 'entry',
          date: line.at.toISOString(),
          reference: line.reference,
          type: line.type,
          counterparty: harmless(line.counterparty),
          counterparty_code: line.counterpartyCode,
          amount: line.amount,
          balance: line.balance,
          currency,
          note: harmless(line.note),
        }),
      )
      .join('')
  }
  yield rowText({ record: 'sum_in', amount: statement.sumIn, currency }) +
    rowText({ record: 'sum_out', amount: statement.sumOut, currency }) +
    rowText({ record: 'closing_balance', date: to, balance: statement.closing, currency })
}
