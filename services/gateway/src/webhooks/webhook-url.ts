import ipaddr from 'ipaddr.js'

const LENGTH_MAX = 2_048

/**
 * The rule that an endpoint's URL breaks, if any. That its name leads to a public address is checked by the notifier at each
 * connect: a name may lead elsewhere tomorrow.
 */
export const brokenUrlRule = (
  text: string,
  { allowPrivate }: { allowPrivate: boolean },
): string | undefined => {
  if (text.length > LENGTH_MAX) return `must have at most ${LENGTH_MAX} characters`
  if (!URL.canParse(text)) return 'must be a URL such as "https://hooks.example.com/pennywire"'
  const { protocol, username, password, hostname, hash } = new URL(text)
  if (protocol !== 'https:' && !(allowPrivate && protocol === 'http:')) return 'must begin with https://'
  if (username !== '' || password !== '') return 'must hold no user and no password'
  if (hash !== '') return 'must hold no fragment'
  if (allowPrivate) return undefined
  const host = hostname.replace(/^\[|\]$/g, '')
  if (host === 'localhost' || host.endsWith('.localhost')) return 'must lead to a public address'
  if (ipaddr.isValid(host) && ipaddr.process(host).range() !== 'unicast')
    return 'must lead to a public address'
  return undefined
}
