// Renders PDFs in a separate thread: a thousand entries take half a second of CPU. No other file may import
// statement-pdf.ts, which loads pdfkit and its fonts.
import { buffer } from 'node:stream/consumers'
import { serveWork } from '@pennywire/runtime/worker-pool.ts'
import type { Statement, StatementLine } from './statement.ts'
import { statementPdf } from './statement-pdf.ts'

/** A statement with all its lines: at most PDF_MOST_ENTRIES. */
export type PdfWork = { statement: Statement; lines: StatementLine[] }

async function* onePage(lines: StatementLine[]) {
  yield lines
}

serveWork(
  ({ statement, lines }: PdfWork): Promise<Uint8Array> => buffer(statementPdf(statement, onePage(lines))),
)
