import { CHECK_PATH } from '@pennywire/documents/describe-receipt.ts'
import { receiptTime, receiptWords, typeWords } from '@pennywire/messages/receipt-words.ts'
import { type Language, moneyOf } from '@pennywire/messages/render-notice.ts'
import { html } from 'hono/html'
import type { CheckedReceipt } from './check-receipt.ts'

/** The page has no script; its form asks the gateway alone. */
export const CHECK_PAGE_POLICY =
  "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

/** The page that checks a receipt: a form, and what came of it. `checked` is null while nothing was asked. */
export const checkPage = (
  language: Language,
  asked: { reference: string; code: string },
  checked: CheckedReceipt | 'refused' | null,
) => {
  const words = receiptWords(language)
  const facts = (receipt: CheckedReceipt): Array<[string, string]> => {
    const { amount, currency, reversedAmount } = receipt
    const side = receipt.side === 'sender' ? words.sent : words.received
    return [
      [words.reference, receipt.reference],
      [words.type, typeWords(language, receipt.type)],
      [side[0]!.toUpperCase() + side.slice(1), moneyOf(language, amount, currency)],
      [words.time, receiptTime(new Date(receipt.completedAt))],
      [words.from, receipt.fromWalletCode ?? words.outside],
      [words.to, receipt.toWalletCode ?? words.outside],
      ...(/[1-9]/.test(reversedAmount)
        ? [[words.check.reversed, moneyOf(language, reversedAmount, currency)] as [string, string]]
        : []),
    ]
  }
  const outcome =
    checked === null
      ? html`<p>${words.check.intro}</p>`
      : checked === 'refused'
        ? html`<h2 role="alert">✘ ${words.check.refused}</h2><p>${words.check.why}</p>`
        : html`<h2 role="status">✔ ${words.check.authentic}</h2><p>${words.check.compare}</p>
<table>${facts(checked).map(([label, value]) => html`<tr><th scope="row">${label}</th><td>${value}</td></tr>`)}</table>`
  return html`<!doctype html>
<html lang="${language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Pennywire: ${words.check.title}</title>
<link rel="stylesheet" href="/docs/page.css">
</head>
<body>
<h1>${words.check.title}</h1>
${outcome}
<form method="get" action="${CHECK_PATH}">
<p><label>${words.reference}<br><input name="reference" value="${asked.reference}" required size="32" maxlength="40" autocomplete="off"></label></p>
<p><label>${words.check.code}<br><input name="code" value="${asked.code}" required size="32" maxlength="64" autocomplete="off"></label></p>
<p><button>${words.check.submit}</button></p>
</form>
</body>
</html>
`
}
