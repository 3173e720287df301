// For tests: an authority and a certificate that it issues for 127.0.0.1 and for no other name, made with openssl.
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export type TestCertificates = { ca: string; caFile: string; certFile: string; keyFile: string }

/** Creates them as `NAME-*.pem` in the folder. */
export const makeCertificates = (folder: string, name: string): TestCertificates => {
  const file = (part: string) => join(folder, `${name}-${part}.pem`)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' })
  const key = ['-newkey', 'rsa:2048', '-nodes', '-keyout']
  const caExtensions = ['-addext', 'basicConstraints=critical,CA:TRUE']
  openssl(
    'req',
    '-x509',
    '-days',
    '2',
    '-subj',
    `/CN=${name} authority`,
    ...caExtensions,
    ...key,
    file('ca-key'),
    '-out',
    file('ca'),
  )
  openssl('req', '-subj', '/CN=127.0.0.1', ...key, file('key'), '-out', file('request'))
  writeFileSync(file('extensions'), 'subjectAltName=IP:127.0.0.1\n')
  openssl(
    ...['x509', '-req', '-days', '2', '-in', file('request'), '-CA', file('ca'), '-CAkey', file('ca-key')],
    ...['-set_serial', '1', '-extfile', file('extensions'), '-out', file('cert')],
  )
  return {
    ca: readFileSync(file('ca'), 'utf8'),
    caFile: file('ca'),
    certFile: file('cert'),
    keyFile: file('key'),
  }
}
