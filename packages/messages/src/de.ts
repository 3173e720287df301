import type { Catalogue, Say } from './catalogue.ts'

const to = ({ other }: Say<unknown>) => (other === null ? '' : ` an ${other}`)
const from = ({ other }: Say<unknown>) => (other === null ? '' : ` von ${other}`)
const balance = ({ data, money, reference }: Say<{ balance: string }>) =>
  `Ihr Kontostand beträgt ${money(data.balance)}${reference}.`
const available = ({ data, money, reference }: Say<{ available: string }>) =>
  `${money(data.available)} sind verfügbar${reference}.`
const until = ({ data, time }: Say<{ until: number | null }>) =>
  data.until === null ? '' : ` bis ${time(data.until)}`
const ended = (reason: string) =>
  reason === 'expired'
    ? 'die Frist ist abgelaufen'
    : reason === 'voided'
      ? 'die Reservierung wurde aufgehoben'
      : 'die Reservierung ist beendet'

type Rejected = { amount: string; code: string; detail?: string; limit?: string; used?: string }
const rejected = (title: string, what: string) => (say: Say<Rejected>) => {
  const { data, money, reference, why } = say
  const limit =
    data.limit === undefined ? '' : ` (Limit ${money(data.limit)}, genutzt ${money(data.used ?? '0')})`
  return {
    title,
    body: `${what} über ${money(data.amount)}${to(say)} wurde nicht ausgeführt. ${why(data.code, data.detail)}${limit}${reference}.`,
  }
}
const text = (title: string, body: string) => () => ({ title, body })

const NOT_YOU = 'Waren Sie das nicht, setzen Sie sofort ein neues Passwort und sagen Sie uns Bescheid.'
const FROZEN_BY: Readonly<Record<string, string>> = {
  self: 'Sie haben Ihr Wallet gesperrt: Es geht kein Geld hinaus.',
  pin: 'Ihr Wallet wurde nach zu vielen falschen PINs gesperrt: Es geht kein Geld hinaus.',
  staff: 'Unser Team hat Ihr Wallet gesperrt: Es geht kein Geld hinaus und keines hinein.',
}
const ACTIONS: Readonly<Record<string, string>> = {
  send: 'Zahlungen',
  deposit: 'Einzahlungen',
  withdrawal: 'Auszahlungen',
}

const CHANGED: Readonly<Record<string, string>> = {
  url: 'seine Adresse',
  secret: 'sein Geheimnis',
  eventTypes: 'die Ereignisse, die er bekommt',
  description: 'seine Beschreibung',
  state: 'ob er eingeschaltet ist',
}
const listOf = (changed: string) =>
  changed
    .split(',')
    .map(one => CHANGED[one] ?? one)
    .join(', ')
const PAUSED_BY: Readonly<Record<string, string>> = {
  password_reset: ', weil ein vergessenes Passwort ersetzt wurde',
  account_disabled: ', weil Ihr Konto deaktiviert wurde',
}

export const de: Catalogue = {
  locale: 'de',
  notices: {
    transfer_sent: say => ({
      title: 'Geld gesendet',
      body: `Sie haben ${say.money(say.data.amount)}${to(say)} gesendet. ${balance(say)}`,
    }),
    transfer_received: say => ({
      title: 'Geld erhalten',
      body: `Sie haben ${say.money(say.data.amount)}${from(say)} erhalten. ${balance(say)}`,
    }),
    fee_sent: say => ({
      title: 'Gebühr berechnet',
      body: `Eine Gebühr von ${say.money(say.data.amount)} wurde berechnet. ${balance(say)}`,
    }),
    deposit_completed: say => ({
      title: 'Einzahlung abgeschlossen',
      body: `${say.money(say.data.amount)} sind in Ihrem Wallet eingegangen. ${balance(say)}`,
    }),
    withdrawal_completed: say => ({
      title: 'Auszahlung abgeschlossen',
      body: `${say.money(say.data.amount)} wurden ausgezahlt. ${balance(say)}`,
    }),
    reversal_sent: say => ({
      title: 'Geld zurückgegeben',
      body: `${say.money(say.data.amount)} von ${say.referenceOf(say.data.originalId)} wurden${to(say)} zurückgegeben. ${balance(say)}`,
    }),
    reversal_received: say => ({
      title: 'Geld zurückerhalten',
      body: `${say.money(say.data.amount)} von ${say.referenceOf(say.data.originalId)} sind${from(say)} zu Ihnen zurückgekommen. ${balance(say)}`,
    }),
    withdrawal_returned: say => ({
      title: 'Auszahlung zurückgekommen',
      body: `${say.money(say.data.amount)} von ${say.referenceOf(say.data.originalId)} konnten nicht ausgezahlt werden und sind zurück. ${balance(say)}`,
    }),
    money_in_suspense: say => ({
      title: 'Geld wartet auf Sie',
      body: `${say.money(say.data.amount)} sind eingegangen, und Ihr Wallet kann sie nicht aufnehmen. Wir bewahren sie für Sie auf${say.reference}.`,
    }),
    transfer_rejected: rejected('Überweisung abgelehnt', 'Ihre Überweisung'),
    deposit_rejected: rejected('Einzahlung abgelehnt', 'Ihre Einzahlung'),
    withdrawal_rejected: rejected('Auszahlung abgelehnt', 'Ihre Auszahlung'),
    hold_rejected: rejected('Reservierung abgelehnt', 'Ihre Reservierung'),
    reversal_rejected: rejected('Rückbuchung abgelehnt', 'Ihre Rückbuchung'),
    withdrawal_started: say => ({
      title: 'Auszahlung begonnen',
      body: `${say.money(say.data.amount)} sind unterwegs und dafür reserviert. ${available(say)}`,
    }),
    withdrawal_failed: say => ({
      title: 'Auszahlung fehlgeschlagen',
      body: `${say.money(say.data.amount)} konnten nicht ausgezahlt werden und bleiben in Ihrem Wallet. ${available(say)}`,
    }),
    hold_placed: say => ({
      title: 'Geld reserviert',
      body: `${say.money(say.data.amount)} sind in Ihrem Wallet${say.other === null ? '' : ` für ${say.other}`}${until(say)} reserviert. ${available(say)}`,
    }),
    hold_captured: say => {
      const { data, money } = say
      const rest = /[1-9]/.test(data.rest) ? ` ${money(data.rest)} sind wieder verfügbar.` : ''
      return {
        title: 'Reserviertes Geld abgebucht',
        body: `${money(data.amount)} von ${money(data.held)}, die reserviert waren, wurden${from(say)} abgebucht.${rest} ${balance(say)}`,
      }
    },
    hold_released: say => ({
      title: 'Geld nicht mehr reserviert',
      body: `${say.money(say.data.amount)} sind nicht mehr reserviert: ${ended(say.data.reason)}. ${available(say)}`,
    }),
    incoming_hold_placed: say => ({
      title: 'Geld für Sie reserviert',
      body: `${say.money(say.data.amount)} sind${from(say)} für Sie${until(say)} reserviert${say.reference}.`,
    }),
    incoming_hold_released: say => ({
      title: 'Geld nicht mehr für Sie reserviert',
      body: `${say.money(say.data.amount)}${from(say)} sind nicht mehr für Sie reserviert: ${ended(say.data.reason)}${say.reference}.`,
    }),
    wallet_frozen: ({ data }) => ({
      title: 'Wallet gesperrt',
      body: FROZEN_BY[data.source] ?? 'Ihr Wallet wurde gesperrt: Es geht kein Geld hinaus.',
    }),
    wallet_unfrozen: ({ data }) => ({
      title: 'Wallet wieder aktiv',
      body: `${data.source === 'staff' ? 'Unser Team hat die Sperre aufgehoben.' : 'Die Sperre ist aufgehoben.'} Ihr Wallet kann wieder benutzt werden.`,
    }),
    wallet_closed: ({ data }) => ({
      title: 'Wallet geschlossen',
      body: `Ihr ${data.currency}-Wallet ist geschlossen. Sein Verlauf bleibt erhalten.`,
    }),
    limits_changed: ({ data }) => ({
      title: 'Limits geändert',
      body: `Unser Team hat die Limits für ${ACTIONS[data.action] ?? 'Geldbewegungen'} eines Ihrer Wallets geändert.`,
    }),
    signed_in: text(
      'Neue Anmeldung',
      `Jemand, vermutlich Sie, hat sich mit einem Gerät oder aus einem Netz angemeldet, das für Ihr Konto neu ist. ${NOT_YOU}`,
    ),
    password_changed: text(
      'Passwort geändert',
      `Ihr Passwort wurde geändert, und andere Geräte wurden abgemeldet. ${NOT_YOU}`,
    ),
    pin_set: text('PIN gesetzt', `Ihr Konto hat jetzt eine PIN: Sie bestätigt Zahlungen. ${NOT_YOU}`),
    pin_changed: text(
      'PIN geändert',
      `Ihre PIN wurde geändert, und andere Geräte wurden abgemeldet. ${NOT_YOU}`,
    ),
    pin_locked: text(
      'PIN gesperrt',
      `Zu oft wurde eine falsche PIN eingegeben. Einen Tag lang wird nichts mit PIN bezahlt; Geld kommt weiterhin an. ${NOT_YOU}`,
    ),
    second_factor_enabled: text(
      'Zweiter Faktor eingeschaltet',
      `Die Anmeldung fragt ab jetzt nach einem Code. ${NOT_YOU}`,
    ),
    second_factor_disabled: text(
      'Zweiter Faktor ausgeschaltet',
      `Die Anmeldung fragt nach keinem Code mehr. ${NOT_YOU}`,
    ),
    second_factor_locked: text(
      'Falsche Codes bei der Anmeldung',
      `Mehrmals hintereinander wurde ein falscher Code eingegeben; eine Weile wird keiner angenommen. ${NOT_YOU}`,
    ),
    recovery_code_used: text(
      'Wiederherstellungscode benutzt',
      `Statt des Codes Ihres zweiten Faktors wurde ein Wiederherstellungscode benutzt. ${NOT_YOU}`,
    ),
    recovery_codes_replaced: text(
      'Neue Wiederherstellungscodes',
      `Die Wiederherstellungscodes Ihres zweiten Faktors wurden ersetzt; die alten sind wertlos. ${NOT_YOU}`,
    ),
    api_key_created: text(
      'Neuer API-Schlüssel',
      'Ein API-Schlüssel wurde erzeugt, der in Ihrem Namen handelt. Waren Sie das nicht, widerrufen Sie ihn und setzen Sie ein neues Passwort.',
    ),
    api_key_rotated: text(
      'API-Schlüssel ersetzt',
      'Ein API-Schlüssel Ihres Kontos wurde durch einen neuen ersetzt. Waren Sie das nicht, widerrufen Sie beide und setzen Sie ein neues Passwort.',
    ),
    api_key_revoked: text(
      'API-Schlüssel widerrufen',
      'Ein API-Schlüssel Ihres Kontos wurde widerrufen: Er wird ab jetzt abgelehnt.',
    ),
    external_identity_linked: text(
      'Weiterer Weg zur Anmeldung',
      `Eine Identität bei einem anderen Aussteller darf sich ab jetzt in Ihrem Konto anmelden. ${NOT_YOU}`,
    ),
    external_identity_unlinked: text(
      'Weg zur Anmeldung entfernt',
      `Eine Identität bei einem anderen Aussteller darf sich nicht mehr in Ihrem Konto anmelden. ${NOT_YOU}`,
    ),
    role_changed: text(
      'Rolle geändert',
      'Was Ihr Konto darf, hat sich geändert. Melden Sie sich neu an, um fortzufahren.',
    ),
    account_reactivated: text('Konto wieder aktiv', 'Ihr Konto wurde wieder freigeschaltet.'),
    webhook_disabled: ({ data }) => ({
      title: 'Webhook abgeschaltet',
      body: `Ihr Webhook unter ${data.url} ist zu lange fehlgeschlagen und wurde abgeschaltet. Schalten Sie ihn wieder ein, sobald er geht; sein Protokoll bewahrt auf, was nicht zugestellt wurde.`,
    }),
    webhook_added: ({ data }) => ({
      title: 'Neuer Webhook',
      body: `Ereignisse Ihrer Wallets gehen ab jetzt an ${data.url}. ${NOT_YOU}`,
    }),
    webhook_changed: ({ data }) => ({
      title: 'Webhook geändert',
      body: `An Ihrem Webhook unter ${data.url} hat sich geändert: ${listOf(data.changed)}. ${NOT_YOU}`,
    }),
    webhook_removed: ({ data }) => ({
      title: 'Webhook gelöscht',
      body: `Ihr Webhook unter ${data.url} wurde gelöscht: Dorthin gehen keine Ereignisse mehr. ${NOT_YOU}`,
    }),
    webhook_disabled_by_staff: ({ data }) => ({
      title: 'Webhook von uns abgeschaltet',
      body: `Wir haben Ihren Webhook unter ${data.url} abgeschaltet: Dorthin gehen keine Ereignisse mehr. Fragen Sie uns nach dem Grund, bevor Sie ihn wieder einschalten.`,
    }),
    webhooks_paused: ({ data }) => ({
      title: 'Webhooks angehalten',
      body: `Ihre Webhooks sind angehalten${PAUSED_BY[data.reason] ?? ''}. Löschen Sie, was Sie nicht kennen, und schalten Sie die anderen wieder ein: Ihre Ereignisse warten eine Weile.`,
    }),
    mail_blocked: text(
      'E-Mails erreichen Sie nicht',
      'Ihr Mailserver hat unsere Mail zurückgeschickt, oder sie wurde als Spam markiert; wir schicken keine mehr. Bitten Sie uns, wieder anzufangen, sobald es geht.',
    ),
  },
  unknown: {
    title: 'Neues zu Ihrem Konto',
    body: 'In Ihrem Konto hat sich etwas geändert. Öffnen Sie es, um zu sehen, was.',
  },
  reasons: {
    INSUFFICIENT_BALANCE: 'Der Kontostand reicht nicht aus',
    WALLET_FROZEN: 'Das Wallet ist gesperrt',
    WALLET_CLOSED: 'Das Wallet ist geschlossen',
    RECIPIENT_UNAVAILABLE: 'Der Empfänger kann kein Geld empfangen',
    SELF_TRANSFER: 'Absender und Empfänger sind dasselbe Wallet',
    CURRENCY_MISMATCH: 'Die Währungen passen nicht zusammen',
    BALANCE_LIMIT: 'Der Kontostand würde den größtmöglichen übersteigen',
    REQUEST_EXPIRED: 'Der Auftrag lief ab, bevor über ihn entschieden wurde',
    PER_TRANSACTION_LIMIT_EXCEEDED: 'Der Betrag liegt über dem Limit einer einzelnen Zahlung',
    DAILY_LIMIT_EXCEEDED: 'Das Tageslimit ist ausgeschöpft',
    MONTHLY_LIMIT_EXCEEDED: 'Das Monatslimit ist ausgeschöpft',
    HOLD_ENDED: 'Die Reservierung ist beendet',
    HOLD_EXPIRED: 'Die Frist der Reservierung ist abgelaufen',
    HOLD_NOT_EXPIRED: 'Die Frist der Reservierung ist noch nicht abgelaufen',
    HOLD_AMOUNT_EXCEEDED: 'Der Betrag ist höher als der reservierte',
    NOT_REVERSIBLE: 'Die Zahlung kann nicht zurückgebucht werden',
    REVERSAL_EXCEEDS_ORIGINAL: 'Es würde mehr zurückgegeben als gezahlt wurde',
    PAYMENT_FAILED: 'Der Zahlungsdienstleister hat die Zahlung abgelehnt',
    WALLET_NOT_FOUND: 'Es gibt kein solches Wallet',
    RECIPIENT_NOT_FOUND: 'Es gibt keinen solchen Empfänger',
    TRANSFER_NOT_FOUND: 'Es gibt keine solche Zahlung',
    HOLD_NOT_FOUND: 'Es gibt keine solche Reservierung',
    INTERNAL_ERROR: 'Bei uns ist etwas schiefgegangen',
  },
}
