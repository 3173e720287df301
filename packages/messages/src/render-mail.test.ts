import { referenceOf } from '@pennywire/contracts/ids.ts'
import { describe, expect, test } from 'vitest'
import type { MailSecrets } from './mails.ts'
import { MAIL_TEMPLATES, renderMail, renderNoticeMail } from './render-mail.ts'
import { LANGUAGES } from './render-notice.ts'

const link = 'https://wallet.example/v1/auth/verify-email?token=a-b_c'
const secret: MailSecrets['verify_email'] & MailSecrets['pin_reset'] & MailSecrets['deletion_requested'] = {
  url: 'https://wallet.example/v1/auth/verify-email',
  token: 'a-b_c',
  code: '482915',
  dueAt: '2026-02-07T09:30:00.000Z',
}
const MARKUP = '<img src=x onerror="alert(\'1\')"> & Co'
const ESCAPED = '&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt; &amp; Co'

describe.each(LANGUAGES)('%s', language => {
  test.each(['verify_email', 'reset_password'] as const)(
    '%s: the link stands alone on its line of the text',
    name => {
      const lines = renderMail(language, name, 'Alice', secret).text.split('\n')
      expect(lines.filter(line => line.includes('token'))).toEqual([link])
    },
  )

  test('a code stands alone on its line of the text', () => {
    expect(renderMail(language, 'pin_reset', 'Alice', secret).text.split('\n')).toContain('482915')
  })

  test.each(MAIL_TEMPLATES)('%s: a name is text, never markup', name => {
    const { html, subject, text } = renderMail(language, name, MARKUP, secret as never)
    expect(html).toContain(ESCAPED)
    expect(html).not.toContain('<img')
    if (text.includes(link)) expect(html).toContain(`<a href="${link}">${link}</a>`)
    expect(`${subject} ${text}`).not.toMatch(/undefined|null|\[object/)
  })
})

test.each(MAIL_TEMPLATES)('%s is written otherwise in German than in English', name => {
  const mails = LANGUAGES.map(language => renderMail(language, name, null, secret as never))
  expect(new Set(mails.map(({ subject }) => subject)).size).toBe(LANGUAGES.length)
  expect(new Set(mails.map(({ text }) => text)).size).toBe(LANGUAGES.length)
})

describe('a receipt', () => {
  const transferId = '11111111-1111-8111-8111-111111111111'
  const createdAt = Date.UTC(2026, 10, 5, 14, 30)
  const data = { amount: '1234.50', currency: 'USD', balance: '0.07' }
  const notice = { type: 'transfer_received', data, transferId, createdAt }
  const reference = referenceOf(transferId)

  test('has the amount, the parties, the balance, the reference and the time, in the language', () => {
    const mail = renderNoticeMail('en', notice, { fullName: 'Bob Brown', other: 'Alice S.' })
    expect(mail.subject).toBe(`Money received: 1,234.50 USD (${reference})`)
    expect(mail.text).toContain(
      `Amount: 1,234.50 USD\nFrom: Alice S.\nBalance after it: 0.07 USD\nReference: ${reference}\nTime: Nov 5, 2026, 2:30 PM UTC\n`,
    )
    const german = renderNoticeMail('de', notice, { fullName: null, other: 'Alice S.' })
    expect(german.subject).toBe(`Geld erhalten: 1.234,50 USD (${reference})`)
    expect(german.text).toContain('Guten Tag,\n\nSie haben 1.234,50 USD von Alice S. erhalten.')
    expect(german.html).toContain('<html lang="de">')
  })

  test.each([
    ['transfer_sent', 'To: Alice S.'],
    ['hold_placed', 'To: Alice S.'],
    ['incoming_hold_placed', 'From: Alice S.'],
    ['reversal_received', 'From: Alice S.'],
  ])('%s says %s', (type, line) => {
    const mail = renderNoticeMail(
      'en',
      { ...notice, type, data: { ...data, available: '1.00', until: null, originalId: transferId } },
      { fullName: 'Bob', other: 'Alice S.' },
    )
    expect(mail.text).toContain(line)
  })

  test('names are text, never markup or a header', () => {
    const mail = renderNoticeMail('en', notice, {
      fullName: MARKUP,
      other: `${MARKUP}\r\nBcc: x@example.com`,
    })
    expect(mail.html).toContain(ESCAPED)
    expect(mail.html).not.toContain('<img')
    expect(mail.subject).not.toMatch(/[\r\n]/)
  })

  test('what is about no money has no table, and a warning of a sign-in no word of preferences', () => {
    const frozen = { type: 'wallet_frozen', data: { source: 'staff' }, transferId: null, createdAt }
    const mail = renderNoticeMail('en', frozen, { fullName: null, other: null })
    expect([mail.subject, mail.html.includes('<table')]).toEqual(['Wallet frozen', false])
    const signedIn = { type: 'signed_in', data: {}, transferId: null, createdAt }
    expect(renderNoticeMail('en', signedIn, { fullName: null, other: null }).text).not.toContain(
      'preferences',
    )
  })
})
