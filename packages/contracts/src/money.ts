/**
 * Money is a bigint of minor units with its currency's own exponent, and a decimal string on the wire. No float
 * ever holds an amount.
 */

/** The largest amount or balance: still exact for a consumer that reads Avro `long` as a JavaScript number. */
export const MAX_MINOR = 2n ** 53n - 2n

/**
 * Decimals of each currency in use, by ISO 4217 (list one, active currencies; funds, metals and test codes left
 * out). A wallet can be opened in any of them.
 */
const DECIMALS: Readonly<Record<string, number>> = Object.fromEntries([
  ...list(0, 'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'),
  ...list(
    2,
    `AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
     CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR
     JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD
     NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN
     SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG`,
  ),
  ...list(3, 'BHD IQD JOD KWD LYD OMR TND'),
  ...list(4, 'UYW'),
])

function list(decimals: number, codes: string): [string, number][] {
  return codes
    .trim()
    .split(/\s+/)
    .map(code => [code, decimals])
}

/** All currencies a wallet can hold, sorted. */
export const CURRENCIES: readonly string[] = Object.keys(DECIMALS).sort()

/** Whether a wallet can be opened in this currency (upper-case ISO 4217 code). */
export const isCurrency = (code: string): boolean => Object.hasOwn(DECIMALS, code)

/** How many decimals a currency has. Throws on an unknown code: validate it first. */
export const decimalsOf = (currency: string): number => {
  const decimals = Object.hasOwn(DECIMALS, currency) ? DECIMALS[currency] : undefined
  if (decimals === undefined) throw new RangeError(`${currency} is not an ISO 4217 currency in use`)
  return decimals
}

/**
 * Parses an amount as a client writes it ("12.50", "1", "0.5") into minor units, exactly. Returns the broken rule as
 * text instead of throwing, because a wrong amount is a client error. Refuses zero, signs and anything that a person
 * would not write: spaces, exponents, a leading or trailing point, superfluous leading zeros.
 */
export const parseAmount = (text: string, currency: string): { minor: bigint } | { error: string } => {
  const decimals = decimalsOf(currency)
  const match = /^(0|[1-9][0-9]{0,18})(?:\.([0-9]{1,20}))?$/.exec(text)
  if (!match) return { error: 'must be a decimal string such as "12.50", digits and at most one point' }
  const [, whole = '', fraction = ''] = match
  if (fraction.length > decimals) {
    return { error: `has ${fraction.length} decimals, ${currency} has ${decimals}` }
  }
  const minor = BigInt(whole + fraction.padEnd(decimals, '0'))
  if (minor === 0n) return { error: 'must be greater than zero' }
  if (minor > MAX_MINOR) return { error: `must be at most ${formatAmount(MAX_MINOR, currency)}` }
  return { minor }
}

/** Writes minor units as a decimal string with all the currency's decimals: 1250n USD is "12.50". */
export const formatAmount = (minor: bigint, currency: string): string => {
  const decimals = decimalsOf(currency)
  const digits = (minor < 0n ? -minor : minor).toString().padStart(decimals + 1, '0')
  const sign = minor < 0n ? '-' : ''
  if (decimals === 0) return sign + digits
  return `${sign}${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`
}
