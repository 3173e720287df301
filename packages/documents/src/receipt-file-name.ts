/** The name of a receipt's file. */
export const receiptFileName = (reference: string): string => `receipt-${reference}.pdf`
