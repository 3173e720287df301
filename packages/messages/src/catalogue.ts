import type { NoticeData, NoticeType } from './notices.ts'

/** What every text is made of. */
export type Say<Data> = {
  data: Data
  /** The other side's name as strangers see it; null where there is none, or none is known. */
  other: string | null
  /** The transfer's number, in brackets behind a space; empty where the notice is about no transfer. */
  reference: string
  /** The number of another transfer, by its id. */
  referenceOf: (transferId: string) => string
  /** An amount of the notice's currency, with its code. */
  money: (amount: string) => string
  time: (ms: number) => string
  /** Why a request was refused, by the problem's code. */
  why: (code: string, detail: string | undefined) => string
}

export type Words = { title: string; body: string }

/** The texts of one language, whole: a missing one does not compile. */
export type Catalogue = {
  /** By BCP 47, for numbers and dates. */
  locale: string
  notices: { [Type in NoticeType]: (say: Say<NoticeData[Type]>) => Words }
  /** Of a notice whose type is newer than this version. */
  unknown: Words
  /** By the codes with which requests are refused; English titles stand in for the others. */
  reasons: Readonly<Record<string, string>>
}
