import { expect, test } from 'vitest'
import { readJavaVersion } from './java.ts'

test.each([
  ['openjdk version "17.0.15" 2025-04-15', 17],
  ['java version "1.8.0_401"', 8],
  ['openjdk version "26-ea" 2026-03-17', 26],
  ['The operation couldn’t be completed. Unable to locate a Java Runtime.', undefined],
])('%s is Java %s', (output, version) => expect(readJavaVersion(output)).toBe(version))
