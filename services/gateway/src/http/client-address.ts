import { BlockList, isIP, SocketAddress } from 'node:net'

/** Maps an IPv4 address in IPv6 form ("::ffff:192.0.2.1", as dual-stack sockets report it) to IPv4. */
export const plainAddress = (address: string) => {
  // "::ffff:c000:201" is another spelling of it, which no socket reports but a proxy may send.
  const short = isIP(address) === 6 ? new SocketAddress({ address, family: 'ipv6' }).address : address
  return short.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, '')
}

/**
 * Parses "10.0.0.0/8,192.0.2.7". Throws on entries that are neither an address nor a network, and on "/0": trust in
 * every address means trust in any address that a client makes up.
 */
export const parseNetworks = (list: string): BlockList => {
  const networks = new BlockList()
  for (const entry of list.split(',').filter(Boolean)) {
    const [, address = '', prefix] = /^([^/]+)(?:\/([1-9][0-9]{0,2}))?$/.exec(entry.trim()) ?? []
    const family = isIP(address)
    if (family === 0) throw new Error(`${entry} is no address or network`)
    const bits = prefix === undefined ? (family === 6 ? 128 : 32) : Number(prefix)
    networks.addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4')
  }
  return networks
}

const contains = (networks: BlockList, address: string) =>
  isIP(address) !== 0 && networks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')

/**
 * The client's address: the socket's, unless that is a proxy we trust; then the last address in X-Forwarded-For that
 * is no such proxy. Entries before it were written by the client and prove nothing.
 */
export const clientAddress = (
  socketAddress: string | undefined,
  forwardedFor: string | undefined,
  trusted: BlockList,
): string => {
  const nearest = plainAddress(socketAddress ?? 'unknown')
  if (!forwardedFor || !contains(trusted, nearest)) return nearest
  const hops = forwardedFor.split(',').map(hop => plainAddress(hop.trim()))
  const client = hops.findLast(hop => !contains(trusted, hop))
  return client !== undefined && isIP(client) !== 0 ? client : nearest
}

const groupsOf = (ipv6: string): string[] => {
  const [head = '', tail] = ipv6.split('%')[0]!.split('::')
  const groups = head ? head.split(':') : []
  const after = tail ? tail.split(':') : []
  while (tail !== undefined && groups.length + after.length < 8) groups.push('0')
  return [...groups, ...after].map(group => group.replace(/^0+(?=.)/, '').toLowerCase())
}

/**
 * The networks that an address belongs to, the widest first. IPv6: /48, /56 and /64, because one subscriber has a /64
 * or a /56 and a site has a /48. IPv4: /24 and the address.
 */
export const networksOf = (address: string): string[] => {
  if (isIP(address) === 4) return [`${address.split('.').slice(0, 3).join('.')}.0/24`, address]
  if (isIP(address) !== 6) return [address]
  const [a, b, c, d = '0'] = groupsOf(address)
  const half = (Number.parseInt(d, 16) & 0xff00).toString(16)
  return [`${a}:${b}:${c}::/48`, `${a}:${b}:${c}:${half}::/56`, `${a}:${b}:${c}:${d}::/64`]
}

/**
 * The subject that rate limits count for an address: IPv4 itself, IPv6 by its /64, because a single subscriber has a
 * whole /64 and could use a new address for every request.
 */
export const addressSubject = (address: string): string => networksOf(address).at(-1)!

/** The subject whose connections are limited; undefined for a trusted proxy, because it has many clients. */
export const connectionSubject = (socketAddress: string, trusted: BlockList): string | undefined => {
  const address = plainAddress(socketAddress)
  return contains(trusted, address) ? undefined : addressSubject(address)
}
