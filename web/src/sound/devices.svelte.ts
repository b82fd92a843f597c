// Microphones and speakers of this machine.

export interface Device {
  id: string;
  label: string;
}

class SoundDevices {
  microphones = $state.raw<Device[]>([]);
  speakers = $state.raw<Device[]>([]);
  /** The browser can choose a speaker for a page. */
  readonly canChooseSpeaker = typeof Audio !== 'undefined' && 'setSinkId' in Audio.prototype;
  #watching = false;

  /** Reads them, now and whenever one comes or goes. Names are there once the microphone was allowed. */
  async watch(): Promise<void> {
    if (!this.#watching) {
      this.#watching = true;
      navigator.mediaDevices.addEventListener('devicechange', () => void this.#read());
    }
    await this.#read();
  }

  async #read(): Promise<void> {
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    this.microphones = all.filter((device) => device.kind === 'audioinput').map(named);
    this.speakers = all.filter((device) => device.kind === 'audiooutput').map(named);
  }
}

function named(device: MediaDeviceInfo): Device {
  return { id: device.deviceId, label: device.label };
}

export const soundDevices = new SoundDevices();
