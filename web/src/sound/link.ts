// The page's microphone and speaker, attached to the node by WebRTC on this machine. The node carries the call:
// when this page goes, the call goes on, and the next page attaches to it again.

export interface SoundOptions {
  speaker: string;
  /** Gives the node our offer and comes back with its answer, both SDP. */
  exchange: (offer: string) => Promise<string>;
  /** The connection to the node broke, or the node gave the sound to somebody else. */
  onLost: () => void;
}

/** Why there is no microphone. */
export type MicrophoneTrouble = 'refused' | 'none' | 'busy';

/** One attachment to one call. */
export class SoundLink {
  readonly local: MediaStream | undefined;
  readonly remote = new MediaStream();
  /** The browser wants a click before it plays anything. */
  needsClick = false;
  #peer: RTCPeerConnection;
  #sender: RTCRtpSender;
  #player = new Audio();
  #muted = false;

  private constructor(
    microphone: MediaStream | undefined,
    private readonly options: SoundOptions,
  ) {
    this.local = microphone;
    this.#peer = new RTCPeerConnection();
    const track = microphone?.getAudioTracks()[0];
    this.#sender = this.#peer.addTransceiver(track ?? 'audio', { direction: 'sendrecv' }).sender;
    this.#peer.ontrack = (event) => this.remote.addTrack(event.track);
    this.#peer.onconnectionstatechange = () => {
      const state = this.#peer.connectionState;
      if (state === 'failed' || state === 'disconnected') this.options.onLost();
    };
    this.#player.srcObject = this.remote;
  }

  /** Attaches. Fails as the exchange fails. */
  static async open(microphone: MediaStream | undefined, options: SoundOptions): Promise<SoundLink> {
    const link = new SoundLink(microphone, options);
    try {
      await link.#connect();
    } catch (error) {
      link.close();
      throw error;
    }
    return link;
  }

  set muted(muted: boolean) {
    this.#muted = muted;
    for (const track of this.local?.getAudioTracks() ?? []) track.enabled = !muted;
  }

  get muted(): boolean {
    return this.#muted;
  }

  /** Speaks into another microphone from now on; the old one is let go. */
  async useMicrophone(stream: MediaStream): Promise<void> {
    const track = stream.getAudioTracks()[0];
    if (track === undefined) return;
    track.enabled = !this.#muted;
    await this.#sender.replaceTrack(track);
    for (const old of this.local?.getAudioTracks() ?? []) {
      old.stop();
      this.local?.removeTrack(old);
    }
    this.local?.addTrack(track);
  }

  async useSpeaker(id: string): Promise<void> {
    if ('setSinkId' in this.#player) await this.#player.setSinkId(id);
  }

  /** The node knows how many bits the call's way carries; the browser's coder keeps to that. */
  async limit(bitsPerSecond: number): Promise<void> {
    const parameters = this.#sender.getParameters();
    const [encoding] = parameters.encodings;
    if (encoding === undefined) return;
    encoding.maxBitrate = bitsPerSecond;
    await this.#sender.setParameters(parameters);
  }

  /** Plays; a browser that wants a click first is remembered in `needsClick`. */
  async play(): Promise<void> {
    try {
      await this.#player.play();
      this.needsClick = false;
    } catch (error) {
      this.needsClick = error instanceof DOMException && error.name === 'NotAllowedError';
    }
  }

  /** Lets everything go, the microphone too. The call itself goes on. */
  close(): void {
    this.#peer.onconnectionstatechange = null;
    this.#peer.close();
    this.#player.pause();
    this.#player.srcObject = null;
    for (const track of this.local?.getTracks() ?? []) track.stop();
  }

  async #connect(): Promise<void> {
    await this.#peer.setLocalDescription(await this.#peer.createOffer());
    // The node waits for us at one address of this machine, which is in its answer; it needs none of ours.
    const offer = this.#peer.localDescription?.sdp ?? '';
    const answer = await this.options.exchange(offer);
    await this.#peer.setRemoteDescription({ type: 'answer', sdp: answer });
    if (this.options.speaker !== '') await this.useSpeaker(this.options.speaker).catch(() => undefined);
  }
}

/** Opens the microphone; echo, noise and level are the browser's to see to. */
export async function openMicrophone(id: string): Promise<MediaStream> {
  const audio: MediaTrackConstraints = {
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    channelCount: 1,
  };
  // A microphone that is gone since is no reason to be without one.
  if (id !== '') audio.deviceId = { ideal: id };
  return navigator.mediaDevices.getUserMedia({ audio });
}

/** What an error of `openMicrophone` comes from. */
export function microphoneTrouble(error: unknown): MicrophoneTrouble {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError' || name === 'SecurityError') return 'refused';
  return name === 'NotFoundError' || name === 'OverconstrainedError' ? 'none' : 'busy';
}
