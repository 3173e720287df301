import { expect, test } from 'vitest'
import { addressSubject, clientAddress, networksOf, parseNetworks } from './client-address.ts'

const none = parseNetworks('')
const proxies = parseNetworks('10.0.0.0/8,192.0.2.7,2001:db8:1::/48')

test.each([
  ['203.0.113.9', '1.2.3.4', none, '203.0.113.9', 'no proxy is trusted: the header proves nothing'],
  ['::ffff:203.0.113.9', undefined, none, '203.0.113.9', 'IPv4 in IPv6 is IPv4'],
  ['203.0.113.9', '1.2.3.4', proxies, '203.0.113.9', 'not from a proxy'],
  ['10.1.1.1', '1.2.3.4', proxies, '1.2.3.4', 'from a proxy'],
  ['10.1.1.1', '6.6.6.6, 1.2.3.4', proxies, '1.2.3.4', 'what stands before it was written by the client'],
  ['10.1.1.1', '6.6.6.6, 1.2.3.4, 192.0.2.7', proxies, '1.2.3.4', 'two proxies'],
  ['10.1.1.1', 'nonsense', proxies, '10.1.1.1', 'no address in the header'],
  ['2001:db8:1::5', '2001:db8:2::9', proxies, '2001:db8:2::9', 'IPv6'],
  ['10.1.1.1', '1.2.3.4, ::ffff:c000:207', proxies, '1.2.3.4', 'a proxy, written in hexadecimal'],
  ['10.1.1.1', '::ffff:102:304', proxies, '1.2.3.4', 'IPv4 in IPv6, written in hexadecimal'],
  ['10.1.1.1', '1.2.3.4, ', proxies, '10.1.1.1', 'an empty hop'],
  ['10.1.1.1', '1.2.3.4:443', proxies, '10.1.1.1', 'a port is not part of an address'],
  ['10.1.1.1', '10.9.9.9, 10.8.8.8', proxies, '10.1.1.1', 'nothing but proxies'],
  ['10.1.1.1', `${'6.6.6.6, '.repeat(900)}1.2.3.4`, proxies, '1.2.3.4', 'hundreds of hops'],
  ['fe80::1%eth0', '1.2.3.4', proxies, 'fe80::1', 'an address of the link'],
  [undefined, undefined, proxies, 'unknown', 'the client has gone'],
])('%s, forwarded for %s', (socket, forwarded, trusted, expected, _why) =>
  expect(clientAddress(socket, forwarded, trusted)).toBe(expected),
)

test.each([
  ['203.0.113.9', '203.0.113.9'],
  ['2001:db8:2:3:a:b:c:d', '2001:db8:2:3::/64'],
  ['2001:0DB8:2:3::1', '2001:db8:2:3::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
])('%s counts as %s', (address, subject) => expect(addressSubject(address)).toBe(subject))

test.each([
  '10.0.0.0/x',
  'proxy.example',
  '10.0.0.0/33',
  '10.0.0.0/',
  '10.0.0.0/8/8',
  '10.0.0.0/1e1',
  '0.0.0.0/0',
  '::/0',
])('%s is no network', list => expect(() => parseNetworks(list)).toThrow())

test.each([
  ['192.0.2.7', ['192.0.2.0/24', '192.0.2.7']],
  ['2001:db8:88:ab17::1', ['2001:db8:88::/48', '2001:db8:88:ab00::/56', '2001:db8:88:ab17::/64']],
  ['2001:DB8::1', ['2001:db8:0::/48', '2001:db8:0:0::/56', '2001:db8:0:0::/64']],
  ['unknown', ['unknown']],
])('%s belongs to these networks', (address, networks) => expect(networksOf(address)).toEqual(networks))
