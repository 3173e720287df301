/** The words of a receipt, and of the page that checks it. A missing one does not compile. */
export type ReceiptWords = {
  title: string
  /** Below the amount, for the side that the receipt is made for. */
  sent: string
  received: string
  reference: string
  type: string
  /** By type of a transfer; a type that is newer than this version is shown as it is. */
  types: Readonly<Record<string, string>>
  time: string
  from: string
  to: string
  wallet: string
  /** A side that is no wallet of a user, such as the bank of a deposit. */
  outside: string
  id: string
  check: {
    title: string
    /** On the receipt: what to do with the code. */
    how: string
    code: string
    address: string
    /** On the page. */
    intro: string
    submit: string
    authentic: string
    compare: string
    reversed: string
    refused: string
    why: string
  }
}
