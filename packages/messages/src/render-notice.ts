import { referenceOf } from '@pennywire/contracts/ids.ts'
import { decimalsOf } from '@pennywire/contracts/money.ts'
import { isProblemCode, PROBLEMS } from '@pennywire/contracts/problems.ts'
import type { Catalogue, Say, Words } from './catalogue.ts'
import { de } from './de.ts'
import { en } from './en.ts'
import { knownTypeOf } from './notices.ts'

/** By ISO 639-1. English comes first: it is spoken where nothing else is chosen. */
const CATALOGUES = { en, de } as const satisfies Record<string, Catalogue>

export type Language = keyof typeof CATALOGUES
export const LANGUAGES = Object.keys(CATALOGUES) as [Language, ...Language[]]

const isLanguage = (text: string): text is Language => Object.hasOwn(CATALOGUES, text)

/**
 * The language to speak with somebody who sends this Accept-Language header (RFC 9110, 12.5.4): the one they like most
 * of those that there are, English else.
 */
export const languageOf = (acceptLanguage: string | undefined): Language => {
  const wishes = (acceptLanguage ?? '').split(',').flatMap(wish => {
    const [range = '', ...parameters] = wish
      .trim()
      .toLowerCase()
      .split(/\s*;\s*/)
    const q = parameters.find(parameter => parameter.startsWith('q='))?.slice(2)
    const weight = q === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(q) ? Number(q) : 0
    const language = range === '*' ? 'en' : range.split('-')[0]!
    return weight > 0 && isLanguage(language) ? [{ language, weight }] : []
  })
  return wishes.sort((a, b) => b.weight - a.weight)[0]?.language ?? 'en'
}

type Formats = { money: (amount: string, currency: string) => string; time: (ms: number) => string }

const formatsOf = (locale: string): Formats => {
  const numbers = new Map<number, Intl.NumberFormat>()
  const dates = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' })
  const numberOf = (decimals: number): Intl.NumberFormat => {
    const known = numbers.get(decimals)
    if (known) return known
    const format = new Intl.NumberFormat(locale, {
      minimumFractionDigits: decimals,
      maximumFractionDigits: decimals,
    })
    numbers.set(decimals, format)
    return format
  }
  return {
    // A decimal string is formatted exactly: it never becomes a float (ECMA-402, Intl.NumberFormat.prototype.format).
    money: (amount, currency) =>
      `${numberOf(decimalsOf(currency)).format(amount as Intl.StringNumericLiteral)} ${currency}`,
    // Between time and AM or PM ICU sets a space that few fonts and no search know.
    time: ms => `${dates.format(ms).replaceAll('\u202f', ' ')} UTC`,
  }
}

const FORMATS = new Map(LANGUAGES.map(language => [language, formatsOf(CATALOGUES[language].locale)]))

/** An amount with its currency's code, and a time, as readers of the language write them. */
export const moneyOf = (language: Language, amount: string, currency: string): string =>
  FORMATS.get(language)!.money(amount, currency)
export const timeOf = (language: Language, ms: number): string => FORMATS.get(language)!.time(ms)

/** A notice as it is stored: its type and its data, and what it is about. */
export type StoredNotice = { type: string; data: object; transferId: string | null }

/** The words of a notice in a language; `other` is the other side's name as the reader may see it. */
export const renderNotice = (language: Language, notice: StoredNotice, other: string | null): Words => {
  const catalogue: Catalogue = CATALOGUES[language]
  const { money, time } = FORMATS.get(language)!
  const type = knownTypeOf(notice.type)
  if (type === null) return catalogue.unknown
  const { currency = '' } = notice.data as { currency?: string }
  const say: Say<never> = {
    data: notice.data as never,
    other,
    reference: notice.transferId === null ? '' : ` (${referenceOf(notice.transferId)})`,
    referenceOf,
    money: amount => money(amount, currency),
    time,
    why: (code, detail) =>
      catalogue.reasons[code] ?? (isProblemCode(code) ? PROBLEMS[code].title : (detail ?? code)),
  }
  const { title, body } = catalogue.notices[type](say as never)
  // A name as strangers see it ends with a full stop of its own.
  return { title, body: body.replaceAll('..', '.') }
}
