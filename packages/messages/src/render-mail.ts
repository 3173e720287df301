import { referenceOf } from '@pennywire/contracts/ids.ts'
import { deMails } from './de-mails.ts'
import { enMails } from './en-mails.ts'
import type { Line, MailCatalogue, MailSecrets, MailTemplate } from './mails.ts'
import { KIND_OF, knownTypeOf } from './notices.ts'
import { type Language, moneyOf, renderNotice, type StoredNotice, timeOf } from './render-notice.ts'

const CATALOGUES = { en: enMails, de: deMails } as const satisfies Record<Language, MailCatalogue>

/** The templates that this version can send. */
export const MAIL_TEMPLATES = Object.keys(enMails.templates) as MailTemplate[]

export type Mail = { subject: string; text: string; html: string }

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, character => ENTITIES[character]!)

const textOf = (line: Line): string => {
  if (typeof line === 'string') return line
  if ('link' in line) return line.link
  if ('code' in line) return line.code
  return line.facts.map(([label, value]) => `${label}: ${value}`).join('\n')
}

const htmlOf = (line: Line): string => {
  if (typeof line === 'string') return `<p>${escapeHtml(line)}</p>`
  if ('code' in line) return `<p style="font-size: 1.5em"><strong>${escapeHtml(line.code)}</strong></p>`
  if ('link' in line) {
    const link = escapeHtml(line.link)
    return `<p><a href="${link}">${link}</a></p>`
  }
  const rows = line.facts.map(
    ([label, value], index) =>
      `<tr><th align="left">${escapeHtml(label)}</th><td dir="auto">${index === 0 ? '<strong>' : ''}${escapeHtml(value)}${index === 0 ? '</strong>' : ''}</td></tr>`,
  )
  return `<table cellpadding="4">${rows.join('')}</table>`
}

/** Every value goes through escapeHtml; the language is for screen readers. */
const layOut = (language: Language, fullName: string | null, subject: string, lines: Line[]): Mail => {
  const greeted: Line[] = [CATALOGUES[language].greeting(fullName), ...lines]
  return {
    // A name in a subject is one line: a line break would begin a header of its own.
    subject: subject.replace(/\s+/g, ' '),
    text: [...greeted.map(textOf), ''].join('\n\n'),
    html: `<!doctype html>\n<html lang="${language}"><body>\n${greeted.map(htmlOf).join('\n')}\n</body></html>\n`,
  }
}

/**
 * The mail of a template, to a name (null: nobody is known to have it) and with what its secret holds. A link or a code
 * stands alone on its line of the text.
 */
export const renderMail = <Template extends MailTemplate>(
  language: Language,
  template: Template,
  fullName: string | null,
  secret: MailSecrets[Template],
): Mail => {
  const { subject, lines } = CATALOGUES[language].templates[template](secret)
  return layOut(language, fullName, subject, lines)
}

/** The mail of a notice: its words, and where money moved a receipt. `other` is the other side's name for strangers; `attached`: the receipt comes with it. */
export const renderNoticeMail = (
  language: Language,
  notice: StoredNotice & { createdAt: number },
  {
    fullName,
    other,
    attached = false,
  }: { fullName: string | null; other: string | null; attached?: boolean },
): Mail => {
  const { title, body } = renderNotice(language, notice, other)
  const { receipt } = CATALOGUES[language]
  const { amount, balance, currency } = notice.data as {
    amount?: string
    balance?: string
    currency?: string
  }
  const reference = notice.transferId === null ? null : referenceOf(notice.transferId)
  const facts: Array<[string, string]> = []
  if (amount !== undefined && currency !== undefined) {
    const money = moneyOf(language, amount, currency)
    const type = knownTypeOf(notice.type)
    const isIncoming = type !== null && (KIND_OF[type] === 'money_received' || type.startsWith('incoming_'))
    facts.push([receipt.amount, money])
    if (other !== null) facts.push([isIncoming ? receipt.from : receipt.to, other])
    if (balance !== undefined) facts.push([receipt.balance, moneyOf(language, balance, currency)])
    if (reference !== null) facts.push([receipt.reference, reference])
    facts.push([receipt.time, timeOf(language, notice.createdAt)])
  }
  const subject = reference === null ? title : `${title}: ${facts[0]?.[1] ?? ''} (${reference})`
  const security = knownTypeOf(notice.type) === 'signed_in'
  return layOut(language, fullName, subject, [
    body,
    ...(facts.length > 0 ? [{ facts }] : []),
    ...(attached ? [receipt.attached] : []),
    ...(security ? [] : [receipt.why]),
  ])
}
