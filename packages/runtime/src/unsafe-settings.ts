import { hostsOf } from './database-url.ts'

/** Settings by name, as text, as passed to a process. */
export type SettingTexts = Readonly<Record<string, string | undefined>>
type Issue = { name: string; message: string }

/** Whether a host is this machine: traffic to it crosses no network. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)

/** The protection against reading and changing a connection's traffic, by the scheme that lacks it. */
const SECURED_BY: Record<string, string> = {
  'http:': 'https://',
  'redis:': 'rediss://',
  'postgres:': 'sslmode=verify-full',
  'postgresql:': 'sslmode=verify-full',
}

/** What tests and development may set to true: hashes that a guesser breaks, webhooks into the own network. */
const ONLY_FOR_TRIALS: readonly string[] = ['ALLOW_CHEAP_HASHES', 'WEBHOOK_ALLOW_PRIVATE']

/** Passwords used in examples, or once a default of ours. */
const WELL_KNOWN =
  /^(local-.*|postgres|password|secret|changeme|change-me|admin|redis|kafka|pennywire|test)$/i

const isDatabase = (text: string) => /^postgres(ql)?:/i.test(text)

/** A setting's URL; of a Postgres URL with several hosts, the URL with the first. */
const urlIn = (text: string): URL | undefined => {
  const one = isDatabase(text) ? text.replace(/,[^/?@]*(?=[/?]|$)/, '') : text
  return URL.canParse(one) ? new URL(one) : undefined
}
/** The hosts of a setting's URL. */
const machinesOf = (url: URL, text: string): string[] =>
  isDatabase(text) ? hostsOf(text).map(({ name }) => name) : [url.hostname]
const hostOf = (broker: string) => broker.replace(/:\d+$/, '')

/** Why a setting's connection to another machine would be in plain text; undefined if it would not. */
const plainText = (name: string, text: string, settings: SettingTexts): string | undefined => {
  if (name === 'KAFKA_BROKERS') {
    if (settings.KAFKA_TLS === 'true') return undefined
    const far = text.split(',').find(broker => !isLoopback(hostOf(broker)))
    return far && `${hostOf(far)} is another machine, and KAFKA_TLS is not true`
  }
  const url = name.endsWith('_URL') ? urlIn(text) : undefined
  const remedy = url && SECURED_BY[url.protocol]
  if (!url || !remedy) return undefined
  const far = machinesOf(url, text).find(machine => !isLoopback(machine))
  if (far === undefined || url.searchParams.get('sslmode') === 'verify-full') return undefined
  return `${far} is another machine, and the connection is not ${remedy}`
}

const passwordIssue = (what: string, password: string | undefined): string | undefined => {
  if (!password) return `${what} is empty`
  return WELL_KNOWN.test(password) ? `${what} is one that everybody knows` : undefined
}

/** Why a setting's password protects nothing (empty or well known); undefined if it needs none or has a good one. */
const weakPassword = (name: string, text: string, settings: SettingTexts): string | undefined => {
  if (name === 'KAFKA_SASL_USERNAME')
    return passwordIssue('KAFKA_SASL_PASSWORD', settings.KAFKA_SASL_PASSWORD)
  if (name === 'REGISTRY_USERNAME') return passwordIssue('REGISTRY_PASSWORD', settings.REGISTRY_PASSWORD)
  const url = name.endsWith('_URL') ? urlIn(text) : undefined
  if (!url) return undefined
  const asksForOne = /^(postgres(ql)?|rediss?):$/.test(url.protocol)
  return asksForOne || url.username || url.password
    ? passwordIssue('its password', decodeURIComponent(url.password))
    : undefined
}

/**
 * Finds a process's unsafe settings, each with its name and rule. `names` are the settings that the process has. Plain
 * text to another machine needs ALLOW_PLAINTEXT=true; with NODE_ENV=production nothing allows it, and settings for
 * tests and trials are refused as well.
 */
export const findUnsafeSettings = (settings: SettingTexts, names: readonly string[]): Issue[] => {
  const issues: Issue[] = []
  const production = settings.NODE_ENV === 'production'
  const allowed = settings.ALLOW_PLAINTEXT === 'true'
  const add = (name: string, message: string | undefined) => {
    if (message !== undefined) issues.push({ name, message })
  }
  if (production && allowed) add('ALLOW_PLAINTEXT', 'must not be true in production')
  for (const name of names) {
    const text = settings[name]
    if (text === undefined) continue
    const plain = plainText(name, text, settings)
    if (plain && (production || !allowed))
      add(name, `${plain}${production ? ': refused in production' : '; ALLOW_PLAINTEXT=true allows it'}`)
    if (!production) continue
    add(name, weakPassword(name, text, settings))
    if (ONLY_FOR_TRIALS.includes(name) && text === 'true') add(name, 'must not be true in production')
    // The sandbox supports only http, on any machine.
    if (name === 'PROVIDER_URL' && !plain && urlIn(text)?.protocol === 'http:')
      add(name, 'must be https in production: the sandbox provider moves no money')
  }
  return issues
}
