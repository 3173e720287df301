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

/**
 * The places where a spreadsheet may see the beginning of a formula: at the beginning of a cell, also after the
 * characters that it skips (white space, quotes, invisible ones) and in full width. Not all of them split at commas,
 * and then a quote within the line protects nothing: so a cell begins after every separator.
 */
const FORMULA =
  /(?<=^|[,;|\t\r\n\u2028\u2029])(?=(?:[^\S\t\r\n\u2028\u2029]|["'`\p{Cf}\p{Default_Ignorable_Code_Point}])*[=+\-@＝＋－＠﹢﹣﹦﹫−%|])|^(?=[\t\r\n])/gu

/** A user's text: an apostrophe where a cell could begin keeps a spreadsheet from running it. */
const harmless = (text: string): string => text.replace(FORMULA, "'")

/** A field by RFC 4180, quoted also for readers that split at separators other than the comma. */
const field = (text: string): string =>
  /[",;|\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text

/** Marks the file as UTF-8 for spreadsheets. */
const BYTE_ORDER_MARK = '\ufeff'

const rowText = (row: Row): string => `${COLUMNS.map(column => field(row[column] ?? '')).join(',')}\r\n`

/**
 * A statement as CSV (RFC 4180), in pieces: the column names, a record `opening_balance`, an `entry` for each line,
 * then `sum_in`, `sum_out` and `closing_balance`. A file without the last record was cut off. `withMark`: a byte-order
 * mark in front, without which some spreadsheets read UTF-8 in their own encoding.
 */
export async function* statementCsv(
  statement: Statement,
  pages: AsyncIterable<StatementLine[]> | Iterable<StatementLine[]>,
  withMark = false,
): AsyncGenerator<string> {
  const { currency, from, to } = statement
  if (withMark) yield BYTE_ORDER_MARK
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
