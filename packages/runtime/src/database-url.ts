import { z } from 'zod'

export type DatabaseHost = { name: string; port: number | undefined }

/** The parts of `scheme://user:password@hosts/database?parameters`; no match if the text is no such URL. */
const PARTS = /^([a-z]+):\/\/([^@/?#\s]*@)?([^@/?#\s]*)((?:\/[^/?#\s]*)?(?:\?[^#\s]*)?)$/i
const HOST = /^([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)(?::(\d{1,5}))?$/

/** The rule that a Postgres URL breaks; undefined for a valid one. Never contains the URL's text: it has a password. */
const faultOf = (url: string): string | undefined => {
  const parts = PARTS.exec(url)
  if (!parts) return 'must be postgres://user:password@host:port,host:port/database'
  const [, scheme, login = '', hosts, rest] = parts as unknown as string[]
  if (!/^postgres(ql)?$/i.test(scheme!)) return 'must begin with postgres:// or postgresql://'
  const all = hosts!.split(',')
  for (const [index, host] of all.entries()) {
    const which = `host ${index + 1} of ${all.length}`
    if (host === '') return `${which} is empty`
    // The driver takes the text before the first colon as the name.
    if (host.startsWith('[')) return `${which} is an IPv6 address: give a name that resolves to it`
    const [, name, port] = HOST.exec(host) ?? []
    if (name === undefined) return `${which} must be a name or an IPv4 address, and may have a port`
    if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535))
      return `${which} has a port that is not 1 to 65535`
  }
  // For hosts without a port the driver uses the first host's port, libpq 5432.
  const withPort = all.filter(host => host.includes(':')).length
  if (withPort !== 0 && withPort !== all.length) return 'either each host has a port, or none has'
  try {
    decodeURIComponent(login)
    new URL(`${scheme}://${login}host${rest}`)
  } catch {
    return 'has a user, password or parameter that is not percent-encoded'
  }
  return undefined
}

/** The hosts of a Postgres URL, which may name several: `postgres://user:password@one:5432,two:5432/database`. */
export const hostsOf = (url: string): DatabaseHost[] =>
  (PARTS.exec(url)?.[3] ?? '').split(',').flatMap(host => {
    const [, name, port] = HOST.exec(host) ?? []
    return name === undefined ? [] : [{ name, port: port === undefined ? undefined : Number(port) }]
  })

/** A setting that is a Postgres URL of one or several hosts, as libpq has it. */
export const databaseUrl = z.string().superRefine((url, context) => {
  const fault = faultOf(url)
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault })
})
