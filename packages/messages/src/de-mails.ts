import { linkOf, type MailCatalogue } from './mails.ts'

const NOT_YOU = 'Waren Sie das nicht, setzen Sie sofort ein neues Passwort und sagen Sie uns Bescheid.'
const words =
  (subject: string, ...lines: string[]) =>
  () => ({ subject, lines })
const signupOf = ({
  signedUpAt,
  network,
}: {
  signedUpAt?: string | undefined
  network?: string | undefined
}) =>
  (signedUpAt === undefined ? '' : ` am ${signedUpAt.slice(0, 16).replace('T', ' um ')} UTC`) +
  (network === undefined ? '' : ` aus dem Netz ${network}`)

export const deMails: MailCatalogue = {
  greeting: fullName => (fullName === null ? 'Guten Tag,' : `Guten Tag ${fullName},`),
  templates: {
    verify_email: secret => ({
      subject: 'Bestätigen Sie Ihre E-Mail-Adresse',
      lines: [
        `jemand, vermutlich Sie, hat sich${signupOf(secret)} mit dieser Adresse registriert. Bestätigen Sie sie mit diesem Link:`,
        linkOf(secret),
        'Die Seite fragt nach dem Passwort, das dabei gewählt wurde. Waren Sie das nicht, setzen Sie dort Ihr eigenes: Das ' +
          'der Registrierung ist dann wertlos. Wollen Sie kein Konto bei Pennywire, ignorieren Sie diese Mail.',
      ],
    }),
    reset_password: secret => ({
      subject: 'Setzen Sie ein neues Passwort',
      lines: [
        'jemand, vermutlich Sie, hat ein neues Passwort angefordert. Setzen Sie es innerhalb einer Stunde mit diesem Link:',
        linkOf(secret),
        'Haben Sie es nicht angefordert, ignorieren Sie diese Mail: Ihr Passwort bleibt, wie es ist.',
      ],
    }),
    pin_reset: ({ code }) => ({
      subject: 'Ihr Code für eine neue PIN',
      lines: [
        'geben Sie diesen Code innerhalb von 15 Minuten ein, um eine neue PIN zu setzen:',
        { code },
        'Sagen Sie ihn niemandem. Haben Sie ihn nicht angefordert, setzen Sie ein neues Passwort: Jemand ist als Sie angemeldet.',
      ],
    }),
    password_changed: words(
      'Ihr Passwort wurde geändert',
      'das Passwort Ihres Kontos wurde soeben geändert, und andere Geräte wurden abgemeldet.',
      'Verknüpfte Identitäten, etwa die einer Firma, melden sich weiterhin an: Trennen Sie die, die nicht Ihre sind.',
      NOT_YOU,
    ),
    account_deactivated: words(
      'Ihr Konto ist deaktiviert',
      'Ihr Konto wurde soeben deaktiviert, und alle Geräte wurden abgemeldet. Niemand kann sich mehr anmelden.',
      'Haben Sie das nicht erwartet, sagen Sie uns Bescheid.',
    ),
    account_reactivated: words(
      'Ihr Konto ist wieder aktiv',
      'Ihr Konto wurde wieder freigeschaltet. Sie können sich anmelden wie zuvor.',
    ),
    deletion_requested: ({ dueAt }) => ({
      subject: 'Ihr Konto wird gelöscht',
      lines: [
        `Sie haben die Löschung Ihres Kontos verlangt. Es wird am ${dueAt.slice(0, 16).replace('T', ' um ')} UTC gelöscht, mit allem, was wir über Sie speichern; bis dahin können Sie sich anmelden und die Löschung zurücknehmen.`,
        'Heben Sie vorher ab, was in Ihren Wallets liegt, und fordern Sie eine Kopie Ihrer Daten an, wenn Sie eine wollen. Nach der Löschung kommt keine Mail: Wir haben dann keine Adresse mehr von Ihnen.',
        NOT_YOU,
      ],
    }),
    deletion_cancelled: words(
      'Ihr Konto bleibt',
      'die Löschung Ihres Kontos wurde zurückgenommen. Alles bleibt, wie es ist.',
      NOT_YOU,
    ),
    deletion_blocked: words(
      'Ihr Konto konnte noch nicht gelöscht werden',
      'die Löschung Ihres Kontos ist fällig, und etwas steht ihr im Weg, etwa Geld in einem Wallet oder eine Zahlung, die nicht abgeschlossen ist. Melden Sie sich an, um zu sehen, was; wir versuchen es jede Stunde wieder.',
    ),
    role_changed: words(
      'Ihre Rolle hat sich geändert',
      'was Ihr Konto darf, hat sich geändert, und alle Geräte wurden abgemeldet. Melden Sie sich neu an, um fortzufahren.',
      'Haben Sie das nicht erwartet, sagen Sie uns Bescheid.',
    ),
    super_admin_added: words(
      'Es gibt einen neuen super_admin',
      'ein Konto wurde soeben super_admin: Es darf alles, was Sie dürfen.',
      'Haben Sie das nicht erwartet, sehen Sie in der Liste der super_admins nach und nehmen Sie die Rolle weg.',
    ),
    external_identity_linked: words(
      'Ein weiterer Weg zur Anmeldung',
      'eine Identität bei einem anderen Aussteller, etwa Ihrer Firma, darf sich ab jetzt in Ihrem Konto anmelden.',
      NOT_YOU,
    ),
    external_identity_unlinked: words(
      'Ein Weg zur Anmeldung ist beendet',
      'eine Identität bei einem anderen Aussteller darf sich nicht mehr in Ihrem Konto anmelden. Andere Geräte wurden abgemeldet.',
      NOT_YOU,
    ),
    pin_set: words(
      'Ihr Konto hat jetzt eine PIN',
      'soeben wurde eine PIN für Ihr Konto gesetzt: Sie bestätigt Zahlungen.',
      'Waren Sie das nicht, ist jemand als Sie angemeldet: Setzen Sie sofort ein neues Passwort, dann eine neue PIN, und sagen Sie uns Bescheid.',
    ),
    pin_changed: words(
      'Ihre PIN wurde geändert',
      'die PIN Ihres Kontos wurde soeben geändert, und andere Geräte wurden abgemeldet.',
      NOT_YOU,
    ),
    pin_locked: words(
      'Ihre PIN ist gesperrt',
      'dreimal hintereinander wurde eine falsche PIN eingegeben. 24 Stunden lang wird nichts mit PIN bezahlt; Geld kommt weiterhin an.',
      'Waren Sie das nicht, ist jemand als Sie angemeldet: Setzen Sie sofort ein neues Passwort und eine neue PIN.',
    ),
    second_factor_locked: words(
      'Falsche Codes bei der Anmeldung',
      'mehrmals hintereinander wurde ein falscher Code eingegeben; eine Weile wird keiner angenommen, ein Wiederherstellungscode schon.',
      'Waren Sie das nicht, kennt jemand Ihr Passwort: Setzen Sie sofort ein neues.',
    ),
    second_factor_enabled: words(
      'Die Anmeldung fragt jetzt nach einem Code',
      'der zweite Faktor Ihres Kontos wurde soeben eingeschaltet: Die Anmeldung fragt ab jetzt nach einem Code. Andere Geräte wurden abgemeldet.',
      NOT_YOU,
    ),
    second_factor_disabled: words(
      'Die Anmeldung fragt nach keinem Code mehr',
      'der zweite Faktor Ihres Kontos wurde soeben ausgeschaltet: Die Anmeldung fragt nur nach dem Passwort. Andere Geräte wurden abgemeldet.',
      NOT_YOU,
    ),
    second_factor_removed: words(
      'Ihr zweiter Faktor wurde entfernt',
      'unser Team hat soeben den zweiten Faktor Ihres Kontos entfernt, und alle Geräte wurden abgemeldet: Die Anmeldung fragt nur nach ' +
        'dem Passwort. Schalten Sie ihn so bald wie möglich wieder ein.',
      'Haben Sie nicht darum gebeten, setzen Sie sofort ein neues Passwort und sagen Sie uns Bescheid.',
    ),
    second_factor_recovery: words(
      'Ein Wiederherstellungscode wurde benutzt',
      'statt des Codes Ihres zweiten Faktors wurde soeben ein Wiederherstellungscode benutzt.',
      NOT_YOU,
    ),
    recovery_codes_replaced: words(
      'Sie haben neue Wiederherstellungscodes',
      'die Wiederherstellungscodes Ihres zweiten Faktors wurden soeben ersetzt; die bisherigen sind wertlos.',
      NOT_YOU,
    ),
    api_key_created: words(
      'Ein neuer API-Schlüssel',
      'soeben wurde ein API-Schlüssel erzeugt, der in Ihrem Namen handelt. Ihr Konto führt ihn mit dem auf, was er darf.',
      'Waren Sie das nicht, widerrufen Sie ihn, setzen Sie ein neues Passwort und sagen Sie uns Bescheid.',
    ),
    api_key_rotated: words(
      'Ein API-Schlüssel wurde ersetzt',
      'ein API-Schlüssel Ihres Kontos wurde soeben durch einen neuen ersetzt.',
      'Waren Sie das nicht, widerrufen Sie beide, setzen Sie ein neues Passwort und sagen Sie uns Bescheid.',
    ),
    api_key_revoked: words(
      'Ein API-Schlüssel wurde widerrufen',
      'wir haben einen API-Schlüssel Ihres Kontos widerrufen. Was ihn benutzt, wird ab jetzt abgelehnt.',
      'Haben Sie das nicht erwartet, fragen Sie uns, warum.',
    ),
  },
  receipt: {
    amount: 'Betrag',
    reference: 'Referenz',
    time: 'Zeit',
    balance: 'Kontostand danach',
    from: 'Von',
    to: 'An',
    attached: 'Der Beleg ist als PDF angehängt.',
    why: 'Was per E-Mail kommt, steht in den Einstellungen Ihres Kontos; dort können Sie es abschalten.',
  },
}
