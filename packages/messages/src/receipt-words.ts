import { deReceipts } from './de-receipts.ts'
import { enReceipts } from './en-receipts.ts'
import type { ReceiptWords } from './receipts.ts'
import type { Language } from './render-notice.ts'

const WORDS = { en: enReceipts, de: deReceipts } as const satisfies Record<Language, ReceiptWords>

/** The words of receipts in a language. */
export const receiptWords = (language: Language): ReceiptWords => WORDS[language]

/** A transfer's type as people read it. */
export const typeWords = (language: Language, type: string): string =>
  WORDS[language].types[type] ?? type.replaceAll('_', ' ')

/** A time on receipts and on the page that checks them: the same characters in each language, to be compared. */
export const receiptTime = (at: Date): string => `${at.toISOString().slice(0, 19).replace('T', ' ')} UTC`
