// Made by scripts/api-types.mjs from openapi.json. Do not change by hand.
export interface paths {
    "/api/blocks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Blocked accounts, newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Block"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        /** Blocks an account: it neither rings nor leaves requests, and is not told so. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewBlock"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Block"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/blocks/{who}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Lets a blocked account be as others. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Address or name */
                    who: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Unblocked */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/calls": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Calls going on first, then past ones, newest first. */
        get: {
            parameters: {
                query?: {
                    /** @description At most so many; default 50, at most 1,000. */
                    limit?: number | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallSummary"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        /** Begins a call; what follows comes as events. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CallRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallStarted"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/calls/{call}/answer": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Answers a call that rings here. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description The call, or `current` */
                    call: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallSummary"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/calls/{call}/decline": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Declines a call that rings here. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description The call, or `current` */
                    call: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallSummary"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/calls/{call}/hangup": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Hangs up, or gives a call up that rings there. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description The call, or `current` */
                    call: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallSummary"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/calls/{call}/why": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Why a call goes, or went, as it does: what this end observed, and what it means in sentences. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description The call or the beginning of its name, or `current` */
                    call: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallWhy"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/connections": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Why this node is connected to so many machines: every connection, its role and its purpose. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ConnectionView"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/contacts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All contacts, by name. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Contact"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        /** Adds a contact. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewContact"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Contact"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/contacts/{who}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Removes a contact. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Address or name */
                    who: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Removed */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Changes a contact: name, note, blocked. What is absent stays. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Address or name */
                    who: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ContactChange"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Contact"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/api/devices": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The account's devices. Takes a few seconds: they are asked whether they are there. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Devices"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        /** Adds the device that printed a link. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewDevice"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["DeviceView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/devices/{device}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Shuts a device out for ever; answers with what it was. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Label, or the beginning of the key */
                    device: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["DeviceView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        /** Gives a device another label. */
        patch: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Label, or the beginning of the key */
                    device: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["DeviceChange"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["DeviceView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        trace?: never;
    };
    "/api/echo": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Begins a test call to a supernode's echo service. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["EchoRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["CallStarted"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Events as they happen. The first message to send is `{"token":"…"}`; the first to come is `{"type":"welcome",…}`. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description WebSocket; each message is a NodeEvent */
                101: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["NodeEvent"];
                    };
                };
                /** @description Too many listeners */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/identity": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who this installation is. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Identity"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/invitations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Invitations that are out, newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["InvitationView"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        /** Makes an invitation. Its link is shown this once. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewInvitation"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["InvitationMade"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/invitations/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Ends an invitation. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description The invitation */
                    id: number;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Ended */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/network": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What kind of network this machine is in. Asks supernodes that are known; takes up to 3 s. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["NetworkReport"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This description of the API. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description OpenAPI 3.1 */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": Record<string, never>;
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/page/link": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes a link that opens the page once, within two minutes. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PageLink"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/page/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Trades the code of a link for the token. A code is good for one trade. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["PageCode"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PageSession"];
                    };
                };
                /** @description T1317 */
                401: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
                /** @description T1318 */
                429: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/requests": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Silent requests that wait for a decision, newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["ContactRequest"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        /** Leaves a silent request with somebody; how it goes comes as events. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["SentRequest"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/requests/clear": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Drops all requests that wait. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Cleared"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/requests/sent": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Requests left with others since the node started, newest first. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["SentRequest"][];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/requests/{request}/accept": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes whoever left a request a contact. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Its id, the beginning of it, or the address */
                    request: string;
                };
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["AcceptRequest"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Contact"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/requests/{request}/decline": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Declines a request; they are not told, and another one is passed over for 30 days. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    /** @description Its id, the beginning of it, or the address */
                    request: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description Declined */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/shutdown": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Stops the node in good order. */
        post: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["ShutdownRequest"];
                };
            };
            responses: {
                /** @description It is stopping */
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the node is doing now. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Status"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/volunteer": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The terms, the owner's consent and caps, and what this node does for others now. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["VolunteerView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        /** Takes consent back. What is served is drained: clients and calls get a minute to move. */
        delete: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["VolunteerView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/volunteer/caps": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Sets caps. What is absent stays. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["CapsChange"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["VolunteerView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/volunteer/consent": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /** Agrees to the terms, for exactly the roles named. */
        put: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody: {
                content: {
                    "application/json": components["schemas"]["NewConsent"];
                };
            };
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["VolunteerView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/volunteer/ledger": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What was served, by days. It does not say to whom: that is not written down. */
        get: {
            parameters: {
                query?: {
                    /** @description The last days, today among them; default 30. */
                    days?: number | null;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["LedgerView"];
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The node's figures as Prometheus text. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "text/plain": string;
                    };
                };
                default: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Failure"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description Body of `POST /api/requests/{request}/accept`. */
        AcceptRequest: {
            /** @description The contact's name; default what they call themselves. */
            name?: string | null;
        };
        /**
         * @description What an address can be used for.
         * @enum {string}
         */
        AddressScope: "loopback" | "link_local" | "private" | "carrier_nat" | "public" | "special";
        /** @description An address of this machine. */
        AddressView: {
            address: string;
            /** @description Packets to the internet leave from it. */
            default_route: boolean;
            interface: string;
            scope: components["schemas"]["AddressScope"];
        };
        /** @description An account that neither rings nor leaves requests, and is not told so. */
        Block: {
            address: string;
            /** @description The contact's name, if it is one. */
            contact?: string | null;
            /** Format: int64 */
            since_unix_ms: number;
        };
        /** @enum {string} */
        CallDirection: "outgoing" | "incoming";
        /**
         * @description What speaks and listens on this side of a call.
         * @enum {string}
         */
        CallEndpoint: "file" | "echo";
        /** @description Something that happened in a call. */
        CallEvent: components["schemas"]["CallStep"] & {
            /** Format: int64 */
            at_unix_ms: number;
            /** @description Which call. */
            call: string;
        };
        /**
         * @description What one end of a call observed. Times are milliseconds since the call began at this end.
         *
         *     Of the other side it holds only what this side was given: nothing of the addresses of somebody who is not a contact.
         */
        CallFacts: {
            /** @default false */
            connected: boolean;
            /**
             * @description The other side was a contact when the call began.
             * @default false
             */
            contact: boolean;
            /**
             * @description The other account's devices that were tried.
             * @default []
             */
            devices: components["schemas"]["DeviceFact"][];
            /**
             * @description Both sides could show each other addresses, as far as this side knows.
             * @default false
             */
            direct_allowed: boolean;
            /** @default null */
            direction: components["schemas"]["CallDirection"] | null;
            /**
             * @description Whether the NAT here showed one socket at different addresses to two relays (a symmetric NAT); null: not known.
             * @default null
             */
            mapping_varies: boolean | null;
            /**
             * @description Sentences written while it happened, oldest first.
             * @default []
             */
            notes: string[];
            /**
             * @description Addresses of this machine that the call used or offered.
             * @default []
             */
            own_candidates: components["schemas"]["CandidateFact"][];
            /** @default null */
            path: components["schemas"]["CallPath"] | null;
            /** @default [] */
            paths: components["schemas"]["PathFact"][];
            /** @default null */
            reason: components["schemas"]["EndReason"] | null;
            /**
             * @description This side's setting for this call.
             * @default false
             */
            relay_only: boolean;
            /** @default [] */
            relays: components["schemas"]["RelayFact"][];
            /**
             * @description Where the time of setting up went, in the order of the steps.
             * @default []
             */
            steps: components["schemas"]["SetupStep"][];
            /** @default [] */
            switches: components["schemas"]["SwitchFact"][];
            /**
             * @description Addresses that the other side offered for this call.
             * @default []
             */
            their_candidates: components["schemas"]["CandidateFact"][];
            /**
             * @description The other side asked for relays only, by its settings or because we are no contact of its; known once it answered.
             * @default false
             */
            they_relay_only: boolean;
        };
        /**
         * @description The kind of way the packets of a call took.
         * @enum {string}
         */
        CallPath: "direct" | "relayed";
        /**
         * @description All that one side of a call measured, written beside its recording when the call ends.
         *
         *     The series have one value a step of `step_ms`, the first for the step that begins at `begin_unix_ms`.
         */
        CallReport: {
            /** Format: int64 */
            begin_unix_ms: number;
            call: components["schemas"]["CallSummary"];
            /** @description Level of the sound heard, in dBFS, −100 for silence. */
            heard_dbfs: number[];
            /** Format: int64 */
            longest_gap_at_unix_ms: number;
            /**
             * Format: double
             * @description Longest gap, and when it began.
             */
            longest_gap_ms: number;
            paths: components["schemas"]["PathSeries"][];
            /** @description Where the recording of what was heard lies, if there is one. */
            recording?: string | null;
            /** @description Level of the sound sent, in dBFS, −100 for silence. */
            sent_dbfs: number[];
            sound: components["schemas"]["SoundReport"];
            /** Format: int64 */
            step_ms: number;
            why?: components["schemas"]["CallWhy"] | null;
        };
        /** @description Body of `POST /api/calls`. File paths are on the node's machine and absolute. */
        CallRequest: {
            /** @description A `tandem:` address, a link with an invitation, or the name of a contact. */
            address: string;
            endpoint?: components["schemas"]["CallEndpoint"];
            /**
             * Format: int64
             * @description Hang up this long after the call connected.
             */
            for_ms?: number | null;
            /** @description WAV file to send, from the moment the call connects. */
            play?: string | null;
            /** @description WAV file to write what is heard to. */
            record?: string | null;
            redundancy?: components["schemas"]["Redundancy"] | null;
            /** @description Never show the other side this machine's address. Default: as configured. */
            relay_only?: boolean;
        };
        /** @description The last line of `tandem call --json`. Scripts rely on it. */
        CallResult: {
            /** @description The label of the own account's device that answered or declined the call instead of this one. */
            answered_by?: string | null;
            /**
             * Format: int64
             * @description Sound that was made up because its packets came too late or never.
             */
            concealed_ms: number;
            /** @description True only if sound came through. */
            connected: boolean;
            /**
             * Format: int64
             * @description Longest time between arrivals of two distinct packets, at the socket.
             */
            longest_gap_ms: number;
            packets: components["schemas"]["PacketCounts"];
            path?: components["schemas"]["CallPath"] | null;
            /** @description Peer ids of the relays used, in order of first use; empty on a direct call. */
            relays: string[];
            setup_ms: components["schemas"]["SetupTimes"];
            /** @description Why it ended or did not connect, in a sentence. */
            why: string;
        };
        /** @description Answer to a request that began a call. */
        CallStarted: {
            /** @description Names the call in events and in `/api/calls/{call}`. */
            call: string;
        };
        /** @enum {string} */
        CallState: "looking_up" | "ringing" | "connecting" | "talking" | "ended";
        /** @description What happened; in JSON the field `event` says which. */
        CallStep: {
            address: string;
            /** @enum {string} */
            event: "looking_up";
        } | {
            /** Format: int64 */
            after_ms: number;
            /** Format: int32 */
            devices: number;
            /** @enum {string} */
            event: "found";
        } | {
            /** @description Address of the caller, proved by its certificate. */
            address: string;
            /** @description What the caller calls itself, unproved. */
            claimed_name?: string;
            /** @description The contact's name, if the caller is one. */
            contact?: string | null;
            /** @enum {string} */
            event: "incoming";
            /** @description The label of the invitation by which a stranger may ring. */
            invitation?: string | null;
        } | {
            /** Format: int64 */
            after_ms: number;
            /** @enum {string} */
            event: "ringing";
        } | {
            /** Format: int64 */
            after_ms: number;
            /** @enum {string} */
            event: "answered";
        } | {
            /** Format: int64 */
            after_ms: number;
            /** @enum {string} */
            event: "connected";
            path: components["schemas"]["CallPath"];
            relays: string[];
        } | (components["schemas"]["PathChange"] & {
            /** @enum {string} */
            event: "path_changed";
        }) | {
            /** @enum {string} */
            event: "mirroring";
            on: boolean;
            why: string;
        } | {
            /** @enum {string} */
            event: "ended";
            reason: components["schemas"]["EndReason"];
            result: components["schemas"]["CallResult"];
        };
        /** @description One call, going on or over. */
        CallSummary: {
            /** @description Address of the other account. */
            address: string;
            /** Format: int64 */
            answered_unix_ms?: number | null;
            call: string;
            direction: components["schemas"]["CallDirection"];
            /** Format: int64 */
            ended_unix_ms?: number | null;
            /** @description Are packets doubled now? */
            mirroring: boolean;
            /** @description The contact's name, if it is one. */
            name?: string | null;
            /** @description The paths used, when they changed and why. */
            path_changes: components["schemas"]["PathChange"][];
            reason?: components["schemas"]["EndReason"] | null;
            /** @description Peer ids of the relays that carry the call now, the one this side sends on first; empty on a direct call. */
            relays_in_use?: string[];
            /** @description So far, or final. */
            result: components["schemas"]["CallResult"];
            /** Format: int64 */
            started_unix_ms: number;
            state: components["schemas"]["CallState"];
        };
        /** @description Answer to `GET /api/calls/{call}/why`; also a part of the stored report. */
        CallWhy: {
            /**
             * @description Which call.
             * @default
             */
            call: string;
            /**
             * @description What the findings were drawn from.
             * @default {
             *       "connected": false,
             *       "contact": false,
             *       "devices": [],
             *       "direct_allowed": false,
             *       "direction": null,
             *       "mapping_varies": null,
             *       "notes": [],
             *       "own_candidates": [],
             *       "path": null,
             *       "paths": [],
             *       "reason": null,
             *       "relay_only": false,
             *       "relays": [],
             *       "steps": [],
             *       "switches": [],
             *       "their_candidates": [],
             *       "they_relay_only": false
             *     }
             */
            facts: components["schemas"]["CallFacts"];
            /**
             * @description The most important first.
             * @default []
             */
            findings: components["schemas"]["Finding"][];
        };
        /** @description One address offered for a call. */
        CandidateFact: {
            /** @description `IP:port`. */
            address: string;
            /** @description The address on this machine that it leads to, if that is known and another one. */
            base?: string | null;
            kind: components["schemas"]["CandidateType"];
            /** @description Peer id of the relay that owns a relayed address. */
            relay?: string | null;
        };
        /**
         * @description The kind of a candidate (RFC 8445 §5.1.1).
         * @enum {string}
         */
        CandidateType: "host" | "server_reflexive" | "relayed" | "mapped" | "peer_reflexive";
        /** @description How the network sees a node whose owner lets it serve. Counted since the node started. */
        CandidateView: {
            /**
             * Format: int64
             * @default 0
             */
            accepted: number;
            /**
             * Format: int64
             * @description Invitations that it did not consider, and those that others did not confirm.
             * @default 0
             */
            invitations_ignored: number;
            /**
             * Format: int64
             * @default 0
             */
            invitations_refused: number;
            /**
             * Format: int64
             * @description Reserves that it asked to serve, and those that agreed.
             * @default 0
             */
            invited: number;
            /**
             * Format: int64
             * @description Messages by which somebody wanted to make it serve or stop. The protocol knows none.
             * @default 0
             */
            orders_ignored: number;
            /**
             * Format: int64
             * @description Times that it began to serve by itself, since there were too few supernodes.
             * @default 0
             */
            promoted_itself: number;
            /**
             * Format: int64
             * @description Times that it began to serve because a supernode with too much to do asked it.
             * @default 0
             */
            recruited: number;
            /**
             * Format: int32
             * @description Reserves that announced themselves here.
             * @default 0
             */
            reserves_known: number;
            /**
             * @description The ways in by which others reached it, lately and by enough of them.
             * @default []
             */
            ways: components["schemas"]["WayView"][];
        };
        /** @description Other caps. What is absent stays. */
        CapsChange: {
            /** Format: int64 */
            bits_per_second?: number | null;
            /** Format: int32 */
            calls?: number | null;
            /** Format: int32 */
            devices?: number | null;
            /** Format: int64 */
            directory_bytes_per_month?: number | null;
            /** @description `18:00-23:00`, over midnight too; or `always`. */
            hours?: string | null;
            /** Format: int64 */
            relay_bytes_per_month?: number | null;
            /** @description First forget all caps set before: those of the settings hold, or the defaults. */
            reset?: boolean;
        };
        /** @description The most that is given. */
        CapsView: {
            /**
             * Format: int64
             * @description Relayed sound, all calls together.
             */
            bits_per_second: number;
            /**
             * Format: int32
             * @description Relayed calls at once.
             */
            calls: number;
            /**
             * Format: int32
             * @description Devices this node is a home for.
             */
            devices: number;
            /**
             * Format: int64
             * @description What the directory's connections carry in a calendar month (UTC), both ways.
             */
            directory_bytes_per_month: number;
            /** @description Hours of the day at which the machine may serve, in its local time, like `18:00-23:00`; absent: all day. */
            hours?: string | null;
            /**
             * Format: int64
             * @description Relayed sound in a calendar month (UTC), counted once.
             */
            relay_bytes_per_month: number;
        };
        /** @enum {string} */
        CheckState: "ok" | "warn" | "fail";
        /** @description Answer to a request that drops many things. */
        Cleared: {
            /** Format: int64 */
            count: number;
        };
        /** @description One setting. */
        ConfigEntry: {
            /** @description As written in `tandem.toml`, for example `volunteer.relay`. */
            key: string;
            origin: components["schemas"]["Origin"];
            /** @description The key of the organisation's policy that bounds it, if one does. */
            policy?: string | null;
            value: unknown;
        };
        /** @description What `tandem config show --json` prints. */
        ConfigView: {
            /** @description The data folder. */
            data: string;
            /** @description The file that was read; absent when there is none. */
            file?: string | null;
            settings: components["schemas"]["ConfigEntry"][];
        };
        /**
         * @description What a connection is for.
         * @enum {string}
         */
        ConnectionRole: "home" | "candidate" | "errand" | "carrier" | "signal" | "relay" | "direct" | "directory" | "scout" | "served" | "visitor" | "forwarded" | "relayed";
        /** @description One connection, so that a person can see why it is there. */
        ConnectionView: {
            /** Format: int64 */
            bytes_in: number;
            /** Format: int64 */
            bytes_out: number;
            /** @description What it cannot. */
            does_not_see: string;
            /** @description Of the echo service that a supernode runs, not of the person's own device. */
            for_echo?: boolean;
            /** @description Did this node open it? */
            outbound: boolean;
            /** @description Peer id of the other end, or `anonymous` where none is known. */
            peer: string;
            /** @description In one sentence. */
            purpose: string;
            /** @description The other end's address, as text. */
            remote: string;
            role: components["schemas"]["ConnectionRole"];
            /** @description What the other end can see. */
            sees: string;
            /** Format: int64 */
            since_unix_ms: number;
            /** @description `quic`, `tcp`, `circuit` or `udp`; `none` while it waits to be opened. */
            transport: string;
            why?: components["schemas"]["SupernodeWhy"] | null;
        };
        /** @description Once that the owner agreed to a role. */
        ConsentView: {
            /**
             * Format: int64
             * @description Absent: the settings say so.
             */
            given_unix_ms?: number | null;
            role: components["schemas"]["VolunteerRole"];
            /**
             * Format: int32
             * @description The number of the terms.
             */
            terms: number;
            /**
             * Format: int64
             * @description Absent: it holds.
             */
            withdrawn_unix_ms?: number | null;
        };
        /** @description Somebody this person knows. */
        Contact: {
            /** Format: int64 */
            added_unix_ms: number;
            /** @description `tandem:` address. */
            address: string;
            /** @description A blocked contact never rings. */
            blocked: boolean;
            /** @description Calls to this contact carry an invitation of theirs. */
            invited?: boolean;
            /** @description The name the owner gave, unique among the contacts. */
            name: string;
            note: string;
            /** @description Every call with this contact stays relayed. */
            relay_only?: boolean;
        };
        /** @description Body of `PATCH /api/contacts/{address}`: what is absent stays. */
        ContactChange: {
            blocked?: boolean | null;
            name?: string | null;
            note?: string | null;
            relay_only?: boolean | null;
        };
        /** @description A silent request that waits for a decision. */
        ContactRequest: {
            /** @description Proved. */
            address: string;
            /** Format: int64 */
            at_unix_ms: number;
            /** @description What they call themselves, unproved. */
            claimed_name: string;
            /** @description Names it in `/api/requests/{request}`. */
            id: string;
            message: string;
        };
        /** @description Body of `PATCH /api/devices/{device}`. */
        DeviceChange: {
            /** @description The new label; at most 64 bytes. */
            label: string;
        };
        /** @description One device of the callee (on the caller's side). */
        DeviceFact: {
            /**
             * @description Peer id.
             * @default
             */
            device: string;
            /**
             * @description Why the last attempt failed, as the network layer said it.
             * @default null
             */
            failed: string | null;
            /** @default null */
            failure: components["schemas"]["DeviceFailure"] | null;
            /**
             * Format: int32
             * @description Homes at which it was looked for.
             * @default 0
             */
            homes: number;
            /**
             * Format: int64
             * @default null
             */
            reached_ms: number | null;
            /**
             * @description The supernode through which it was reached.
             * @default null
             */
            via: string | null;
        };
        /**
         * @description What an attempt to reach a device came to; of several the one that tells most, which is the greatest.
         * @enum {string}
         */
        DeviceFailure: "homes_unreachable" | "other" | "not_there";
        /** @description One device of the account. */
        DeviceView: {
            /**
             * Format: int64
             * @description When it was added.
             */
            added_unix_ms: number;
            /**
             * Format: int64
             * @description Until when its certificate holds; null where that is not known here.
             */
            certificate_not_after_unix_ms?: number | null;
            /** @description Is the account key on it? Null where that is not known here. */
            holds_account_key?: boolean | null;
            /** @description Its peer id. */
            key: string;
            /** @description What it is called, for people; empty where it is not known here. */
            label: string;
            /** @description Could it be reached just now? Null where nobody could be asked. */
            reachable?: boolean | null;
            /** @description Is it the one that answers? */
            this: boolean;
            /** @description Five words, to compare with what the device itself shows. */
            words: string;
        };
        /** @description The devices of this installation's account. */
        Devices: {
            /** @description The account's address. */
            address: string;
            /** @description True when the account key is here: only then devices can be added, renamed and revoked here. */
            can_change: boolean;
            /** @description At most 8; this one first. */
            devices: components["schemas"]["DeviceView"][];
            /**
             * Format: int64
             * @description Epoch of the newest device set.
             */
            epoch: number;
        };
        /** @description One thing `tandem doctor` looked at. */
        DoctorCheck: {
            /** @description What to do; absent when all is well. */
            action?: string | null;
            /** @description Stable name, for example `keys`. */
            check: string;
            /** @description What was found. */
            found: string;
            state: components["schemas"]["CheckState"];
        };
        /** @description What `tandem doctor` found. */
        DoctorReport: {
            checks: components["schemas"]["DoctorCheck"][];
            /** @description False when any check failed. */
            ok: boolean;
            version: string;
        };
        /** @description Body of `POST /api/echo`: a test call to the echo service of a supernode. */
        EchoRequest: {
            /**
             * Format: int64
             * @description Default: 5,000.
             */
            for_ms?: number | null;
            play?: string | null;
            record?: string | null;
        };
        /**
         * @description Why a call ended.
         * @enum {string}
         */
        EndReason: "hung_up" | "remote_hung_up" | "declined" | "busy" | "no_answer" | "answered_elsewhere" | "cancelled" | "not_found" | "unreachable" | "no_path" | "media_lost" | "refused" | "stopping" | "failed";
        /** @description First message a client sends on the WebSocket `/api/events`. */
        EventsHello: {
            /** @description The bearer token. */
            token: string;
        };
        /** @description The body of every answer of the API that is not a success. */
        Failure: {
            error: components["schemas"]["Problem"];
        };
        /** @description One thing that explains a call, or the kind of a network. */
        Finding: {
            /** @description Stable word, for example `relayed_not_a_contact`. Scripts test this, never the text. */
            code: string;
            /** @description In a sentence or two. */
            text: string;
        };
        /** @description One home of this device. */
        HomeView: {
            /** @description Where it is, as a multiaddr. */
            remote: string;
            /** @description True when it holds a reservation, so that others reach us through it. */
            reserved: boolean;
            /** @description Peer id of the supernode. */
            service: string;
            /** Format: int64 */
            since_unix_ms: number;
        };
        /** @description Who this installation is. Never holds a secret. */
        Identity: {
            /** @description The account's address, to give to others. */
            address: string;
            /** Format: int64 */
            certificate_not_after_unix_ms: number;
            /**
             * Format: int64
             * @description Serial number of this device's certificate.
             */
            certificate_serial: number;
            /** @description This device's peer id. */
            device: string;
            /**
             * Format: int32
             * @description Number of devices in the set, this one included.
             */
            devices: number;
            /**
             * Format: int64
             * @description Epoch of the newest device set.
             */
            epoch: number;
            /** @description True when the account key is on this device (its 24 words can be shown). */
            has_account_key: boolean;
            /** @description What this device is called, in its certificate; may be empty. */
            label?: string;
            /** @description True while the words were typed here and the account's other devices are not known yet. */
            restoring?: boolean;
            /** @description True when the account revoked this device. */
            revoked?: boolean;
            /** @description True when the key files are sealed under a passphrase. */
            sealed: boolean;
            /** @description The peer id under which this node serves others; unrelated to the account. */
            service: string;
        };
        /** @description Answer to `POST /api/invitations`: the only time that the link is shown. */
        InvitationMade: {
            invitation: components["schemas"]["InvitationView"];
            /** @description `tandem:…?i=…` */
            link: string;
        };
        /** @description An invitation that is out. Its secret is not kept. */
        InvitationView: {
            /** Format: int64 */
            id: number;
            label: string;
            /** Format: int64 */
            made_unix_ms: number;
            /** Format: int64 */
            not_after_unix_ms: number;
            /** @description Addresses of those that did. */
            used_by: string[];
            /**
             * Format: int32
             * @description So many different accounts may use it.
             */
            uses: number;
        };
        /** @description What a new device shows while it waits to be added (`tandem devices join --json`, first line). */
        JoinOffer: {
            /** @description This device's peer id. */
            key: string;
            /** @description For `tandem devices add` on a device that holds the account key. Whoever sees it can add this device, once. */
            link: string;
            /**
             * Format: int64
             * @description So long this device waits.
             */
            within_ms: number;
            /** @description To compare with what the other device shows. */
            words: string;
        };
        /** @description What was served on one day in one role. Nothing says to whom: that is not written down. */
        LedgerLine: {
            /**
             * Format: int64
             * @description Directory: what its connections carried, both ways. Relay: sound forwarded, counted once.
             */
            bytes: number;
            /**
             * Format: int64
             * @description Calls relayed.
             */
            calls: number;
            /**
             * Format: int64
             * @description Nodes that were tried from outside, to tell them whether they can be reached.
             */
            checks: number;
            /**
             * Format: int64
             * @description Calls whose set-up was forwarded.
             */
            circuits: number;
            /** @description The day, in UTC: `2026-11-23`. */
            day: string;
            /**
             * Format: int64
             * @description Devices that had their home here: the most at once.
             */
            devices: number;
            /**
             * Format: int64
             * @description Look-ups answered.
             */
            lookups: number;
            role: components["schemas"]["VolunteerRole"];
            /**
             * Format: int64
             * @description How long it served.
             */
            served_ms: number;
        };
        /** @description What was served, by days. */
        LedgerView: {
            /**
             * Format: int64
             * @description So many days are kept.
             */
            days_kept: number;
            /** @description Newest first; a day and role without service have no line. */
            lines: components["schemas"]["LedgerLine"][];
        };
        /** @description Something that must be so before this node may serve. */
        MissingView: {
            role?: components["schemas"]["VolunteerRole"] | null;
            /** @description The same as a sentence. */
            text: string;
            /** @description A stable word, like `unreachable`. */
            what: string;
        };
        /**
         * @description How a NAT maps (RFC 4787 §4.1, RFC 5780 §4.3).
         * @enum {string}
         */
        NatMapping: "unknown" | "none" | "endpoint_independent" | "address_dependent";
        /** @description What could be learnt about the NAT. */
        NatView: {
            /**
             * @description More than one NAT in a row: the outside address as the router tells it, or a shared range, gives it away.
             * @default false
             */
            double_nat: boolean;
            /**
             * @description A datagram to the outside address came back in.
             * @default untested
             */
            hairpin: components["schemas"]["Works"];
            /**
             * @description The outside addresses that supernodes saw, each once.
             * @default []
             */
            mapped: string[];
            /** @default unknown */
            mapping: components["schemas"]["NatMapping"];
            /**
             * @description The outside port is the inside one.
             * @default null
             */
            port_preserved: boolean | null;
        };
        /**
         * @description The kind of a network, in a word.
         * @enum {string}
         */
        NetworkKind: "unknown" | "offline" | "public" | "friendly_nat" | "symmetric_nat" | "udp_blocked" | "only_https";
        /** @description Answer to `GET /api/network`; what `tandem doctor network --json` prints. */
        NetworkReport: {
            /** @default [] */
            addresses: components["schemas"]["AddressView"][];
            /**
             * @description What a person can do; empty when there is nothing to better.
             * @default []
             */
            advice: components["schemas"]["Finding"][];
            /**
             * Format: int64
             * @default 0
             */
            at_unix_ms: number;
            /**
             * Format: int64
             * @description How far this machine's clock is off, in seconds, by most supernodes' clocks; null: within tolerance or not known.
             * @default null
             */
            clock_off_s: number | null;
            /**
             * @description What follows for calls.
             * @default []
             */
            consequences: components["schemas"]["Finding"][];
            /**
             * @description What was concluded without being tested.
             * @default []
             */
            inferred: components["schemas"]["Finding"][];
            /** @default untested */
            ipv4: components["schemas"]["Works"];
            /** @default untested */
            ipv6: components["schemas"]["Works"];
            /** @default unknown */
            kind: components["schemas"]["NetworkKind"];
            /**
             * @default {
             *       "double_nat": false,
             *       "hairpin": "untested",
             *       "mapped": [],
             *       "mapping": "unknown",
             *       "port_preserved": null
             *     }
             */
            nat: components["schemas"]["NatView"];
            /**
             * @description PCP, NAT-PMP or UPnP, where the router offers one; null where that was not asked.
             * @default null
             */
            port_mapping: string | null;
            /**
             * @description What kind of network this is, in words.
             * @default
             */
            summary: string;
            /** @default [] */
            supernodes: components["schemas"]["SupernodeProbe"][];
            /** @default untested */
            tcp: components["schemas"]["Works"];
            /** @default untested */
            tcp_443: components["schemas"]["Works"];
            /**
             * Format: int64
             * @default 0
             */
            took_ms: number;
            /** @default untested */
            udp: components["schemas"]["Works"];
        };
        /** @description Body of `POST /api/blocks`. */
        NewBlock: {
            /** @description A `tandem:` address, or the name of a contact. */
            address: string;
        };
        /** @description The owner agrees to the terms. */
        NewConsent: {
            /** @description Exactly these roles: one that is not named is withdrawn. */
            roles: components["schemas"]["VolunteerRole"][];
            /**
             * Format: int32
             * @description The number of the terms that were read.
             */
            terms: number;
        };
        /** @description Body of `POST /api/contacts`. */
        NewContact: {
            /** @description A `tandem:` address, or a link with an invitation. */
            address: string;
            name: string;
            note?: string;
        };
        /** @description Body of `POST /api/devices`: adds the device that printed the link. */
        NewDevice: {
            /** @description What it shall be called; at most 64 bytes. */
            label?: string;
            /** @description What `tandem devices join` printed on the new device. */
            link: string;
        };
        /** @description Body of `POST /api/invitations`. */
        NewInvitation: {
            /**
             * Format: int64
             * @description Ends after this; default 30 days, at most a year.
             */
            for_ms?: number | null;
            /** @description For the owner's eyes. */
            label?: string;
            /**
             * Format: int32
             * @description So many different accounts may use it; default 1, at most 100.
             */
            uses?: number | null;
        };
        /** @description Body of `POST /api/requests`: leaves a silent request with somebody who takes no calls from strangers. */
        NewRequest: {
            address: string;
            /** @description At most 140 bytes. */
            message?: string;
            /** @description What to be called there; at most 64 bytes are sent. */
            name?: string;
        };
        /** @description A supernode that may come after another one. */
        NextSupernode: {
            /**
             * @description In a few words.
             * @default
             */
            because: string;
            /**
             * @description Peer id.
             * @default
             */
            service: string;
        };
        /** @description One message of the WebSocket `/api/events`; in JSON the field `type` says which. */
        NodeEvent: {
            /** Format: int32 */
            api_version: number;
            /** @enum {string} */
            type: "welcome";
        } | (components["schemas"]["CallEvent"] & {
            /** @enum {string} */
            type: "call";
        }) | {
            homes: string[];
            ready: boolean;
            /** @enum {string} */
            type: "homes";
        } | {
            contact: components["schemas"]["Contact"];
            /** @enum {string} */
            type: "contact_added";
        } | {
            contact: components["schemas"]["Contact"];
            /** @enum {string} */
            type: "contact_changed";
        } | {
            address: string;
            /** @enum {string} */
            type: "contact_removed";
        } | {
            /** Format: int64 */
            count: number;
            /** @enum {string} */
            type: "requests_waiting";
        } | {
            request: components["schemas"]["SentRequest"];
            /** @enum {string} */
            type: "request_sent";
        } | {
            state: components["schemas"]["ServingState"];
            /** @enum {string} */
            type: "serving";
        } | {
            /** Format: int64 */
            epoch: number;
            /** @enum {string} */
            type: "devices";
        } | {
            problem: components["schemas"]["Problem"];
            /** @enum {string} */
            type: "notice";
        } | {
            /** Format: int64 */
            events: number;
            /** @enum {string} */
            type: "missed";
        } | {
            /** @enum {string} */
            type: "stopping";
            /** Format: int64 */
            within_ms: number;
        };
        /**
         * @description Where a setting's value came from, strongest first.
         * @enum {string}
         */
        Origin: "policy" | "flag" | "environment" | "file" | "default";
        /** @description Sound packets, each counted once however many paths it took. */
        PacketCounts: {
            /**
             * Format: int64
             * @description Sequence numbers that never came on any path.
             */
            lost: number;
            /** Format: int64 */
            received: number;
            /** Format: int64 */
            sent: number;
        };
        /** @description Body of `POST /api/page/session`: what the page was opened with. */
        PageCode: {
            code: string;
        };
        /** @description Answer to `POST /api/page/link`: opens the page, once. */
        PageLink: {
            /**
             * Format: int64
             * @description The link opens nothing after this.
             */
            expires_unix_ms: number;
            /** @description Is the page in this build at all? */
            in_build: boolean;
            /** @description Has the code in its fragment, which no browser sends to any server. */
            url: string;
        };
        /** @description Answer to `POST /api/page/session`. */
        PageSession: {
            /** Format: int32 */
            api_version: number;
            /** @description The bearer token, until the node stops. */
            token: string;
        };
        /** @description A change of the way a call's packets take. */
        PathChange: {
            /** @description Peer id of the relay before; `direct` without one. */
            from: string;
            /**
             * Format: int64
             * @description Since the call connected.
             */
            into_call_ms: number;
            to: string;
            /** @description In a sentence. */
            why: string;
        };
        /**
         * @description How a path stands.
         * @enum {string}
         */
        PathCondition: "checking" | "good" | "silent" | "failed" | "closed";
        /** @description One path of a call. */
        PathFact: {
            /**
             * Format: int64
             * @default null
             */
            first_heard_ms: number | null;
            /**
             * Format: int64
             * @default null
             */
            last_heard_ms: number | null;
            /**
             * @description Both ends of a direct path, as far as known.
             * @default null
             */
            local: string | null;
            /**
             * @description Peer id of the relay, or `direct`.
             * @default
             */
            path: string;
            /**
             * @description Sound leaves on it first.
             * @default false
             */
            primary: boolean;
            /**
             * Format: int64
             * @default 0
             */
            received: number;
            /** @default null */
            remote: string | null;
            /**
             * Format: double
             * @default null
             */
            round_trip_ms: number | null;
            /**
             * Format: int64
             * @description Packets of sound, copies included.
             * @default 0
             */
            sent: number;
            /** @default checking */
            state: components["schemas"]["PathCondition"];
            /**
             * @description `udp` or `tcp`.
             * @default
             */
            transport: string;
        };
        /** @description The sound packets of one path. */
        PathSeries: {
            /** @description Peer id of the relay, or `direct`. */
            path: string;
            received: number[];
            sent: number[];
        };
        /** @description Something that went wrong, for a person: what happened, what it means, what to do next. */
        Problem: {
            /** @description What to do next. */
            action: string;
            /**
             * @description Stable code, for example `T1001`. Scripts test this, never the texts.
             * @example T1001
             */
            code: string;
            /** @description What it means. */
            meaning: string;
            /** @description What happened. */
            message: string;
        };
        /** @description The line `tandem up --json` prints when others can reach this node. Scripts rely on it. */
        Ready: {
            /**
             * @description The account's address.
             * @example tandem:ae7…
             */
            address: string;
            /** @description This device's peer id. */
            device: string;
            /** @description Peer ids of the supernodes that are homes now, at most 3. */
            homes: string[];
            /** @description What others may bootstrap from: full multiaddrs of the service swarm, empty on a leaf. */
            listen: string[];
            /** @description Always true in the line; false in [`Status`] while no home is open. */
            ready: boolean;
        };
        /**
         * @description How the packets of a call are doubled over a second path (spec/media.md "Redundancy").
         * @enum {string}
         */
        Redundancy: "auto" | "always" | "off";
        /** @description A relay that was asked to carry the call. */
        RelayFact: {
            /**
             * Format: int64
             * @default null
             */
            answered_ms: number | null;
            /**
             * Format: int64
             * @default 0
             */
            asked_ms: number;
            /**
             * @description The way to it that is in use, or was last, is TCP.
             * @default false
             */
            over_tcp: boolean;
            /**
             * @description Peer id.
             * @default
             */
            relay: string;
            /**
             * @description It answers nothing at present.
             * @default false
             */
            silent: boolean;
            /** @default asked */
            state: components["schemas"]["RelayState"];
            /**
             * Format: int64
             * @default null
             */
            tcp443_answer_ms: number | null;
            /**
             * Format: int64
             * @default null
             */
            tcp_answer_ms: number | null;
            /** @default false */
            tcp_tried: boolean;
            /**
             * Format: int64
             * @description How long its first answer took, over UDP, over TCP to its own port, and over TCP to port 443.
             * @default null
             */
            udp_answer_ms: number | null;
            /** @default false */
            udp_tried: boolean;
            /**
             * @description Of a refusal or loss, in its words.
             * @default null
             */
            why: string | null;
        };
        /**
         * @description What became of a relay that was asked to carry the call.
         * @enum {string}
         */
        RelayState: "asked" | "granted" | "refused" | "lost";
        /** @description A silent request of ours. */
        SentRequest: {
            address: string;
            /** Format: int64 */
            at_unix_ms: number;
            /**
             * Format: int32
             * @description Devices of theirs that keep it.
             */
            devices: number;
            /** @description Names it in the event `request_sent`. */
            id: string;
            state: components["schemas"]["SentState"];
            /** @description In a sentence. */
            why: string;
        };
        /**
         * @description How far a request of ours is.
         * @enum {string}
         */
        SentState: "working" | "left" | "closed" | "later" | "too_much_work" | "unreachable" | "not_found";
        /** @description How a supernode served this device as a home, in all runs. */
        ServedAsHome: {
            /**
             * Format: int64
             * @default 0
             */
            held_ms: number;
            /**
             * Format: int32
             * @description Answers that did not verify.
             * @default 0
             */
            lied: number;
            /**
             * Format: int32
             * @description How often it was lost while it was a home.
             * @default 0
             */
            lost: number;
            /**
             * Format: int32
             * @description Look-ups in which it left out what others knew.
             * @default 0
             */
            omitted: number;
            /**
             * Format: int32
             * @default 0
             */
            times: number;
        };
        /**
         * @description What this node does for others now.
         * @enum {string}
         */
        ServingState: "off" | "reserve" | "serving" | "draining";
        /** @description When a step was reached first. */
        SetupStep: {
            /** Format: int64 */
            at_ms: number;
            step: components["schemas"]["StepKind"];
        };
        /** @description How long setting up took; null for a step that was not reached. */
        SetupTimes: {
            /**
             * Format: int64
             * @description From the request to the directory's answer.
             */
            lookup?: number | null;
            /**
             * Format: int64
             * @description From the answer to the first sound.
             */
            media?: number | null;
            /**
             * Format: int64
             * @description From the request to the first device that rang.
             */
            ringing?: number | null;
        };
        /** @description How to stop. */
        ShutdownRequest: {
            /**
             * Format: int64
             * @description How long calls get to end or move; default and most 10,000.
             */
            drain_ms?: number | null;
        };
        /** @description Where each moment of the sound that was played came from, in milliseconds. */
        SoundReport: {
            /**
             * Format: int64
             * @description Delay that the jitter buffer added, at the end.
             */
            buffer_ms: number;
            /**
             * Format: int64
             * @description Made up.
             */
            concealed_ms: number;
            /**
             * Format: int64
             * @description From the packet's own bits.
             */
            decoded_ms: number;
            /**
             * Format: int64
             * @description From deep redundancy in a later packet (DRED).
             */
            from_dred_ms: number;
            /**
             * Format: int64
             * @description From the low-bit-rate copy in the packet after it (LBRR).
             */
            from_lbrr_ms: number;
            /** Format: int64 */
            played_ms: number;
            /**
             * Format: int64
             * @description Inserted or dropped to follow the network's delay.
             */
            stretched_ms: number;
        };
        /** @description What the node is doing now. */
        Status: components["schemas"]["Ready"] & {
            /** Format: int32 */
            api_version: number;
            /**
             * Format: int32
             * @description Calls that are ringing or being talked on.
             */
            calls: number;
            home_details: components["schemas"]["HomeView"][];
            /** @description Network id: networks with different ids do not see each other. */
            network: string;
            network_kind?: components["schemas"]["NetworkKind"] | null;
            /** @description What a person should know about now, for example a wrong clock; empty when all is well. */
            problems: components["schemas"]["Problem"][];
            /**
             * Format: int64
             * @description Silent requests that wait for a decision.
             */
            requests_waiting?: number;
            serving: components["schemas"]["ServingState"];
            /** Format: int64 */
            started_unix_ms: number;
            /**
             * Format: int32
             * @description Supernodes known, homes included.
             */
            supernodes_known: number;
            /** @description Software version. */
            version: string;
            /** @description Roles the owner agreed to. */
            volunteer_roles: components["schemas"]["VolunteerRole"][];
        };
        /**
         * @description A step of setting a call up.
         * @enum {string}
         */
        StepKind: "looked_up" | "reached" | "ringing" | "relay_granted" | "relayed_path" | "direct_path" | "answered" | "sound";
        /** @description How one supernode was reached. */
        SupernodeProbe: {
            /**
             * @description Its host, as text.
             * @default
             */
            address: string;
            /**
             * @description Peer id.
             * @default
             */
            service: string;
            /**
             * @description A TCP connection to any of its ports.
             * @default untested
             */
            tcp: components["schemas"]["Works"];
            /**
             * @description The same to its port 443, if it offers that.
             * @default untested
             */
            tcp_443: components["schemas"]["Works"];
            /**
             * Format: double
             * @default null
             */
            tcp_round_trip_ms: number | null;
            /**
             * @description STUN over UDP.
             * @default untested
             */
            udp: components["schemas"]["Works"];
            /**
             * Format: double
             * @default null
             */
            udp_round_trip_ms: number | null;
        };
        /** @description Why a supernode was chosen, and what would take its place. */
        SupernodeWhy: {
            /**
             * @description In sentences.
             * @default []
             */
            because: string[];
            /**
             * @description The class of its round trip, as `30 to 80 ms`; null where it was never measured.
             * @default null
             */
            latency: string | null;
            /**
             * Format: int32
             * @description What it says of its load.
             * @default null
             */
            load_percent: number | null;
            /**
             * @description As `198.51.0.0/16`; null where it does not say.
             * @default null
             */
            network: string | null;
            /**
             * @description What would be tried in its place, the best first; which of them is drawn by lot.
             * @default []
             */
            next: components["schemas"]["NextSupernode"][];
            /**
             * @description The supernode that told of it; null: the bootstrap list, or earlier runs.
             * @default null
             */
            referrer: string | null;
            /** @default null */
            served: components["schemas"]["ServedAsHome"] | null;
            /**
             * @description What it says that it runs.
             * @default null
             */
            software: string | null;
        };
        /** @description A change of the path in use, and what it cost. */
        SwitchFact: {
            /** @default  */
            from: string;
            /**
             * Format: int64
             * @description Longest time without a packet, around it. Null: not known (yet).
             * @default null
             */
            gap_ms: number | null;
            /**
             * Format: int64
             * @description Since the call connected.
             * @default 0
             */
            into_call_ms: number;
            /**
             * Format: int64
             * @description Packets of the other side that never came, around it. Null: not known (yet).
             * @default null
             */
            lost: number | null;
            /** @default  */
            to: string;
            /** @default  */
            why: string;
        };
        /**
         * @description What a volunteer may agree to, each on its own.
         * @enum {string}
         */
        VolunteerRole: "directory" | "relay";
        /** @description Volunteering: the terms, the consent, what is served. */
        VolunteerView: {
            /**
             * Format: int32
             * @description Number of the terms accepted, if any.
             */
            accepted?: number | null;
            /**
             * Format: int32
             * @description Relay allocations now (two a call).
             */
            allocations: number;
            /**
             * Format: int64
             * @description What is carried now for both roles, bits per second, a mean of some seconds.
             */
            bits_per_second: number;
            /**
             * Format: int64
             * @description The owner's cap on relayed traffic, bits per second.
             */
            bits_per_second_cap: number;
            /**
             * Format: int64
             * @description The owner's cap on relayed traffic, bytes a calendar month.
             */
            bytes_per_month_cap: number;
            /**
             * Format: int64
             * @description Since the node started, in both roles.
             */
            bytes_served: number;
            /**
             * Format: int64
             * @description Relayed in this calendar month (UTC), over all runs of the node.
             */
            bytes_this_month: number;
            /**
             * Format: int32
             * @description Calls relayed now.
             */
            calls: number;
            /**
             * Format: int32
             * @description The owner's cap on concurrent relayed calls.
             */
            calls_cap: number;
            /** @description What others found out about this node, and what came of being asked to serve. */
            candidate?: components["schemas"]["CandidateView"];
            /** @description What the owner allows. */
            caps: components["schemas"]["CapsView"];
            /**
             * Format: int32
             * @description Signalling circuits forwarded now.
             */
            circuits: number;
            /** @description Each time the owner agreed, oldest first, and when that was taken back. */
            consents: components["schemas"]["ConsentView"][];
            /**
             * Format: int32
             * @description Devices this node is a home for now.
             */
            devices_served: number;
            /**
             * Format: int64
             * @description What the directory's connections carried in this calendar month (UTC), both ways.
             */
            directory_bytes_this_month: number;
            /** @description The settings (flags, environment, `tandem.toml`) say that this node serves. */
            from_settings: boolean;
            /** @description All that keeps this node from serving, in words; empty when nothing does, or when nobody asked it to. */
            missing: components["schemas"]["MissingView"][];
            roles: components["schemas"]["VolunteerRole"][];
            state: components["schemas"]["ServingState"];
            /** @description The terms changed since: nobody is served until the owner agrees to the new ones. */
            suspended: boolean;
            /**
             * Format: int32
             * @description Number of the terms in force.
             */
            terms: number;
            /** @description The terms, in plain language. */
            terms_text: string;
        };
        /** @description One way in from outside. */
        WayView: {
            /**
             * @description Over IPv6; else over IPv4.
             * @default false
             */
            ipv6: boolean;
            /**
             * @description Through a port that a router forwards.
             * @default false
             */
            mapped: boolean;
            /**
             * @description By TCP; else by UDP.
             * @default false
             */
            tcp: boolean;
        };
        /**
         * @description Whether something works. `untested`: there was nothing to test it with.
         * @enum {string}
         */
        Works: "yes" | "no" | "untested";
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
