import assert from 'node:assert/strict'
import test from 'node:test'
import { bootGuest } from './guest.ts'
import { whyNoLab } from './kernel.ts'

const why = whyNoLab()

test('the lab: two Soft-RoCE peers in a guest', { skip: why ?? false, timeout: 500_000 }, async (context) => {
  await using guest = await bootGuest({
    timeoutMs: 450_000,
    jobs: [
      { name: 'devices', script: 'ibv_devinfo; rdma link show; [ "$(rdma link show | wc -l)" = 2 ]' },
      {
        name: 'read-only',
        script: 'echo changed 2>/dev/null >test/lab/written-by-the-guest && exit 1; touch "$SHARE/written"',
      },
      { name: 'pingpong', script: 'sh "$LAB/pingpong.sh"' },
      { name: 'exit-code', script: 'echo said; exit 7' },
    ],
  })
  const succeeds = async (name: string): Promise<string> => {
    const { code, output } = await guest.outcome(name)
    assert.equal(code, 0, `${name} exited with ${code}\n${output}\n${guest.postMortem()}`)
    return output
  }
  await context.test('each end of the pair has a device with an active port', async () => {
    assert.equal((await succeeds('devices')).match(/PORT_ACTIVE/g)?.length, 2)
  })
  await context.test("the guest cannot write the host's files", async () => {
    await succeeds('read-only')
  })
  await context.test('ibv_rc_pingpong crosses from one device to the other', async (of) => {
    of.diagnostic((await succeeds('pingpong')).trim().split('\n').at(-1) ?? '')
  })
  await context.test('a job that fails is seen to fail', async () => {
    assert.deepEqual(await guest.outcome('exit-code'), { code: 7, output: 'said\n' })
  })
  await context.test('the guest powers off by itself', () => guest.ended())
})
