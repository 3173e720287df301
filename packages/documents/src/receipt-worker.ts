// Renders receipts in a separate thread: fonts and shaping take tens of milliseconds of CPU each. No other file may
// import receipt-pdf.ts, which loads pdfkit and its fonts.
import { serveWork } from '@pennywire/runtime/worker-pool.ts'
import type { Receipt } from './describe-receipt.ts'
import { receiptPdf } from './receipt-pdf.ts'

serveWork((receipt: Receipt): Promise<Uint8Array> => receiptPdf(receipt))
