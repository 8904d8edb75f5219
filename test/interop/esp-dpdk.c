/*
 * ESP by DPDK's librte_ipsec, in user space, for esp-dpdk.test.ts. One packet per line of standard input, one answer per
 * line:
 *
 *     seal|open DEVICE CIPHER KEY SALT HMAC KEY ICV SPI SEQUENCE PACKET
 *
 * DEVICE: which of DPDK's software drivers does the crypto. CIPHER: gcm, chacha or cbc; HMAC: 256, 384, 512 or "-".
 * Bytes in hex, "-" for none. seal: an IPv4 packet becomes an ESP packet with that 64-bit number; open: the other way,
 * "forged" when it is. Each line has an association of its own, whose receiver has had the number before.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cryptodev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ip.h>
#include <rte_ipsec.h>
#include <rte_mbuf.h>

#define IV_OFFSET (sizeof(struct rte_crypto_op) + sizeof(struct rte_crypto_sym_op))
#define WINDOW 1024
#define ROOM 4096

static struct rte_mempool *packets, *operations, *sessions;

static void die(const char *what) {
	fprintf(stderr, "esp-dpdk: %s: %s\n", what, rte_strerror(rte_errno));
	exit(1);
}

static size_t from_hex(const char *text, uint8_t *bytes) {
	size_t length = 0;
	for (; text[0] != '-' && text[2 * length] != 0; length++)
		if (length == ROOM || sscanf(text + 2 * length, "%2hhx", &bytes[length]) != 1)
			die("hex");
	return length;
}

static void start(const char *name, int argc, char **drivers) {
	char *arguments[16 + argc];
	int count = 0;
	char *fixed[] = {(char *)name, "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level=3",
		"-m", "64", "-l", "0"};
	for (size_t i = 0; i < RTE_DIM(fixed); i++)
		arguments[count++] = fixed[i];
	for (int i = 0; i < argc; i++)
		arguments[count++] = drivers[i];
	if (rte_eal_init(count, arguments) < 0)
		die("EAL");
	uint32_t private = 0;
	for (uint8_t device = 0; device < rte_cryptodev_count(); device++)
		private = RTE_MAX(private, rte_cryptodev_sym_get_private_session_size(device));
	packets = rte_pktmbuf_pool_create("packets", 64, 0, 0, ROOM + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
	operations = rte_crypto_op_pool_create("operations", RTE_CRYPTO_OP_TYPE_SYMMETRIC, 64, 0, 32, SOCKET_ID_ANY);
	sessions = rte_cryptodev_sym_session_pool_create("sessions", 8, private, 0, 0, SOCKET_ID_ANY);
	if (!packets || !operations || !sessions)
		die("memory");
	for (uint8_t device = 0; device < rte_cryptodev_count(); device++) {
		struct rte_cryptodev_config config = {.nb_queue_pairs = 1, .socket_id = SOCKET_ID_ANY};
		struct rte_cryptodev_qp_conf queue = {.nb_descriptors = 64, .mp_session = sessions};
		if (rte_cryptodev_configure(device, &config) || rte_cryptodev_queue_pair_setup(device, 0, &queue, SOCKET_ID_ANY) ||
			rte_cryptodev_start(device))
			die("crypto device");
	}
}

struct ask {
	int seal, device;
	uint8_t key[ROOM], salt[ROOM], hmac_key[ROOM], packet[ROOM];
	size_t key_length, hmac_key_length, packet_length;
	char cipher[8], hmac[8];
	unsigned icv;
	uint32_t spi;
	uint64_t sequence;
};

/* The first of the chain: encrypted, then authenticated; the other way round on receiving. */
static struct rte_crypto_sym_xform *transforms(const struct ask *ask, struct rte_crypto_sym_xform chain[2]) {
	memset(chain, 0, 2 * sizeof(*chain));
	if (strcmp(ask->cipher, "cbc")) {
		chain[0].type = RTE_CRYPTO_SYM_XFORM_AEAD;
		struct rte_crypto_aead_xform *aead = &chain[0].aead;
		aead->op = ask->seal ? RTE_CRYPTO_AEAD_OP_ENCRYPT : RTE_CRYPTO_AEAD_OP_DECRYPT;
		aead->algo = strcmp(ask->cipher, "gcm") ? RTE_CRYPTO_AEAD_CHACHA20_POLY1305 : RTE_CRYPTO_AEAD_AES_GCM;
		aead->key.data = ask->key;
		aead->key.length = ask->key_length;
		aead->iv.offset = IV_OFFSET;
		aead->iv.length = 12;
		aead->digest_length = ask->icv;
		aead->aad_length = 12; /* SPI and 64 bits of number */
		return chain;
	}
	struct rte_crypto_sym_xform *cipher = &chain[ask->seal ? 0 : 1], *auth = &chain[ask->seal ? 1 : 0];
	cipher->type = RTE_CRYPTO_SYM_XFORM_CIPHER;
	cipher->cipher.op = ask->seal ? RTE_CRYPTO_CIPHER_OP_ENCRYPT : RTE_CRYPTO_CIPHER_OP_DECRYPT;
	cipher->cipher.algo = RTE_CRYPTO_CIPHER_AES_CBC;
	cipher->cipher.key.data = ask->key;
	cipher->cipher.key.length = ask->key_length;
	cipher->cipher.iv.offset = IV_OFFSET;
	cipher->cipher.iv.length = 16;
	auth->type = RTE_CRYPTO_SYM_XFORM_AUTH;
	auth->auth.op = ask->seal ? RTE_CRYPTO_AUTH_OP_GENERATE : RTE_CRYPTO_AUTH_OP_VERIFY;
	auth->auth.algo = !strcmp(ask->hmac, "256") ? RTE_CRYPTO_AUTH_SHA256_HMAC
		: !strcmp(ask->hmac, "384") ? RTE_CRYPTO_AUTH_SHA384_HMAC : RTE_CRYPTO_AUTH_SHA512_HMAC;
	auth->auth.key.data = ask->hmac_key;
	auth->auth.key.length = ask->hmac_key_length;
	auth->auth.digest_length = ask->icv;
	chain[0].next = &chain[1];
	return chain;
}

static struct rte_ipsec_sa *associate(const struct ask *ask, struct rte_crypto_sym_xform *chain, struct rte_ipv4_hdr *outer) {
	struct rte_ipsec_sa_prm how = {.crypto_xform = chain};
	how.ipsec_xform.spi = ask->spi;
	memcpy(&how.ipsec_xform.salt, ask->salt, 4);
	how.ipsec_xform.options.esn = 1;
	how.ipsec_xform.direction = ask->seal ? RTE_SECURITY_IPSEC_SA_DIR_EGRESS : RTE_SECURITY_IPSEC_SA_DIR_INGRESS;
	how.ipsec_xform.proto = RTE_SECURITY_IPSEC_SA_PROTO_ESP;
	how.ipsec_xform.mode = RTE_SECURITY_IPSEC_SA_MODE_TUNNEL;
	how.ipsec_xform.tunnel.type = RTE_SECURITY_IPSEC_TUNNEL_IPV4;
	how.ipsec_xform.replay_win_sz = ask->seal ? 0 : WINDOW;
	how.ipsec_xform.esn.value = ask->seal ? ask->sequence : ask->sequence - 1;
	how.tun.hdr = outer;
	how.tun.hdr_len = sizeof(*outer);
	how.tun.next_proto = IPPROTO_IPIP;
	int size = rte_ipsec_sa_size(&how);
	struct rte_ipsec_sa *association = size < 0 ? NULL : aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN(size, RTE_CACHE_LINE_SIZE));
	if (!association || (memset(association, 0, size), rte_ipsec_sa_init(association, &how, size)) < 0)
		die("association");
	return association;
}

static void answer(const struct ask *ask) {
	struct rte_ipv4_hdr outer = {.version_ihl = 0x45, .time_to_live = 64, .next_proto_id = IPPROTO_ESP};
	struct rte_crypto_sym_xform chain[2];
	struct rte_crypto_sym_xform *first = transforms(ask, chain);
	void *crypto = rte_cryptodev_sym_session_create(ask->device, first, sessions);
	if (!crypto)
		die("session");
	struct rte_ipsec_session session = {.type = RTE_SECURITY_ACTION_TYPE_NONE, .sa = associate(ask, first, &outer)};
	session.crypto.ses = crypto;
	session.crypto.dev_id = ask->device;
	if (rte_ipsec_session_prepare(&session) < 0)
		die("prepare");

	struct rte_mbuf *packet = rte_pktmbuf_alloc(packets);
	struct rte_crypto_op *operation = rte_crypto_op_alloc(operations, RTE_CRYPTO_OP_TYPE_SYMMETRIC);
	size_t before = ask->seal ? 0 : sizeof(outer);
	uint8_t *room = (uint8_t *)rte_pktmbuf_append(packet, before + ask->packet_length);
	outer.total_length = htons(before + ask->packet_length);
	memcpy(room, &outer, before);
	memcpy(room + before, ask->packet, ask->packet_length);
	packet->l2_len = 0;
	packet->l3_len = sizeof(outer);

	uint16_t done = rte_ipsec_pkt_crypto_prepare(&session, &packet, &operation, 1);
	if (done == 1) {
		if (rte_cryptodev_enqueue_burst(ask->device, 0, &operation, 1) != 1)
			die("enqueue");
		while (rte_cryptodev_dequeue_burst(ask->device, 0, &operation, 1) != 1)
			;
		if (operation->status != RTE_CRYPTO_OP_STATUS_SUCCESS)
			packet->ol_flags |= RTE_MBUF_F_RX_SEC_OFFLOAD_FAILED;
		done = rte_ipsec_pkt_process(&session, &packet, 1);
	}
	if (done == 1) {
		size_t skip = ask->seal ? sizeof(outer) : 0;
		const uint8_t *bytes = rte_pktmbuf_mtod(packet, uint8_t *);
		for (size_t i = skip; i < packet->data_len; i++)
			printf("%02x", bytes[i]);
		printf("\n");
	} else {
		printf(rte_errno == EBADMSG ? "forged\n" : "refused: %s\n", rte_strerror(rte_errno));
	}
	fflush(stdout);
	rte_pktmbuf_free(packet);
	rte_crypto_op_free(operation);
	rte_cryptodev_sym_session_free(ask->device, crypto);
	free(session.sa);
}

int main(int argc, char **argv) {
	start(argv[0], argc - 1, argv + 1);
	static char line[8 * ROOM], verb[8], device[64], key[2 * ROOM], salt[64], hmac_key[2 * ROOM], packet[2 * ROOM];
	while (fgets(line, sizeof(line), stdin)) {
		static struct ask ask;
		memset(&ask, 0, sizeof(ask));
		if (sscanf(line, "%7s %63s %7s %8191s %63s %7s %8191s %u %u %lu %8191s", verb, device, ask.cipher, key, salt, ask.hmac,
				hmac_key, &ask.icv, &ask.spi, &ask.sequence, packet) != 11)
			die("a line");
		ask.seal = !strcmp(verb, "seal");
		ask.device = rte_cryptodev_get_dev_id(device);
		if (ask.device < 0)
			die(device);
		ask.key_length = from_hex(key, ask.key);
		from_hex(salt, ask.salt);
		ask.hmac_key_length = from_hex(hmac_key, ask.hmac_key);
		ask.packet_length = from_hex(packet, ask.packet);
		answer(&ask);
	}
	return 0;
}
