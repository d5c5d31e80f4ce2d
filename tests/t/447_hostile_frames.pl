# Frames that somebody damaged, cut off or made up: tide.apply refuses them within its limits, and nothing else happens.

use strict;
use warnings;

use IPC::Run ();
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $CRC_AT = 16;
my $RAW_LEN_AT = 8;

my $mesh = PgTide::Mesh->new;
$mesh->sql_all(<<'END');
CREATE SCHEMA hostileabc;
CREATE TABLE hostileabc.a_victim (id int PRIMARY KEY, v text, n numeric, a int[], j jsonb);
CREATE SCHEMA abcd;
CREATE TABLE abcd.efgh (id int PRIMARY KEY, v text);
END
$mesh->sql('eu', 'CREATE TABLE abcd.ijkl (id int PRIMARY KEY, v text)');
$mesh->class('shop');
$mesh->add_table($_, 'shop') for qw(hostileabc.a_victim abcd.efgh);
$mesh->link('eu', 'us');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');
$mesh->settle_one('us', 'eu');
$mesh->stop_relays;

# ---- frames ----

my @crc_table = map { my $c = $_; $c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8; $c } 0 .. 255;

sub crc32c
{
	my ($data) = @_;
	my $crc = 0xffffffff;
	$crc = ($crc >> 8) ^ $crc_table[ ($crc ^ $_) & 0xff ] for unpack 'C*', $data;
	return $crc ^ 0xffffffff;
}

# The frame with the checksum it should have.
sub sealed
{
	my ($frame) = @_;
	return $frame if length $frame < $CRC_AT + 4;
	substr($frame, $CRC_AT, 4) = pack 'N', 0;
	substr($frame, $CRC_AT, 4) = pack 'N', crc32c($frame);
	return $frame;
}

my %link = %{ $mesh->rows('eu', 'SELECT position, system_id, timeline FROM tide.link_progress')->[0] };
my $epoch = $mesh->sql('eu', q{SELECT epoch FROM tide.pipeline WHERE name = 'link:us-east'});

# What us would send after these statements; one frame, as bytes.
sub frame_of
{
	my ($sql, @options) = @_;
	$mesh->sql('us', q{SELECT pg_create_logical_replication_slot('test', 'pgoutput')});
	$mesh->sql('us', $sql);
	my $messages = $mesh->sql('us', <<~'END');
		SELECT data FROM pg_logical_slot_get_binary_changes('test', NULL, NULL, 'proto_version', '1',
			'publication_names', 'tide_global', 'binary', 'true', 'messages', 'true')
		END
	$mesh->sql('us', q{SELECT pg_drop_replication_slot('test')});
	my ($out, $err);
	IPC::Run::run([
			"$ENV{TIDE_TOP}/build/tools/frames", '--region=us-east', "--start=$link{position}", "--system-id=$link{system_id}",
			"--timeline=$link{timeline}", '--wal-end=FFFF/0', '--level=0', @options
		],
		'<', \"$messages\n", '>', \$out, '2>', \$err) or die "frames: $err";
	my ($line) = split /\n/, $out;
	return pack 'H*', $line =~ s/^\\x//r;
}

$mesh->sql('eu', <<'END');
CREATE SCHEMA test;
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE TABLE test.frame (id int PRIMARY KEY, frame bytea);
GRANT SELECT ON test.frame TO PUBLIC;
-- What becomes of a frame; whatever it does is undone.
CREATE FUNCTION test.try(e bigint, f bytea, careful boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
BEGIN
	PERFORM tide.apply('link:us-east', e, f, careful);
	RAISE EXCEPTION USING ERRCODE = 'TL001', MESSAGE = 'undo';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE sqlstate WHEN 'TL001' THEN 'ok' ELSE sqlstate || CASE WHEN sqlstate LIKE 'XX%' THEN ' ' || sqlerrm ELSE '' END END;
END$$;
END

# {SQLSTATE or ok => how often} of frames, as the relay would hand them over.
sub verdicts
{
	my ($careful, @frames) = @_;
	$mesh->sql('eu', 'TRUNCATE test.frame');
	my $n = 0;
	my $sql = 'COPY test.frame FROM STDIN;' . "\n" . join('', map { $n++ . "\t\\\\x" . unpack('H*', $_) . "\n" } @frames) . "\\.\n";
	$mesh->sql('eu', $sql);
	my $answer = '';
	my $status = $mesh->node('eu')->psql('postgres',
		"SELECT v, count(*) FROM (SELECT test.try($epoch, frame, $careful) AS v FROM test.frame ORDER BY id) q GROUP BY v ORDER BY v",
		stdout => \$answer, extra_params => [ '-U', 'relay' ]);
	is($status, 0, '... the server lives');
	return { map { split /\|/ } split /\n/, $answer };
}

my $good = frame_of(<<'END');
INSERT INTO hostileabc.a_victim VALUES (1, 'one', 1.50, '{1,NULL,3}', '{"a": [1, 2]}'), (2, NULL, NULL, NULL, NULL);
UPDATE hostileabc.a_victim SET v = 'two', id = 20 WHERE id = 2;
DELETE FROM hostileabc.a_victim WHERE id = 1;
INSERT INTO hostileabc.a_victim VALUES (3, repeat('long ', 100), 'NaN', '{}', 'null');
END
note length($good), ' bytes';
is_deeply(verdicts('false', $good, sealed($good)), { ok => 2 }, 'a good frame is good');

is_deeply(verdicts('false', map { substr $good, 0, $_ } 0 .. length($good) - 1), { TD013 => length $good }, 'cut off anywhere: TD013');
is_deeply(verdicts('false', map { my $f = $good; substr($f, $_, 1) ^= chr(1 << $_ % 8); $f } 0 .. length($good) - 1),
	{ TD013 => length $good }, 'a bit turned anywhere: TD013');
is_deeply(verdicts('false', "$good\0", $good . $good, '', "\0" x 200), { TD013 => 4 }, 'more than a frame, or nothing: TD013');

# Lies that come with the right checksum.
my $lies = verdicts('false', map { my $f = $good; substr($f, rand length $f, 1) = chr rand 256; substr($f, rand length $f, 1) ^= chr(1 << rand 8) if $_ % 2; sealed($f) } 1 .. 4000);
note explain $lies;
# Receive functions of the server have some of their own.
my $INTERNAL = qr/^XX(?!000 unsupported jsonb version)/;
is(join(' ', grep { /$INTERNAL/ } keys %$lies), '', 'lies with the right checksum: no internal error');
cmp_ok(($lies->{ok} // 0), '<', 4000, '... and most are refused');
my $careful = verdicts('true', map { my $f = $good; substr($f, rand length $f, 1) = chr rand 256; sealed($f) } 1 .. 2000);
note explain $careful;
is(join(' ', grep { /$INTERNAL/ } keys %$careful), '', '... nor when applied with care');
is_deeply(verdicts('false', map { my $f = $good; substr($f, $RAW_LEN_AT, 4) = pack('N', $_); sealed($f) } 0, 1, 0x3f000000, 0x7fffffff, 0xffffffff),
	{ TD013 => 5 }, 'a length that is not true: TD013');

# A little that becomes very much: zeroes, compressed.
SKIP:
{
	my $out;
	skip('no zstd here', 2) unless eval { IPC::Run::run([ 'sh', '-c', 'head -c 1056964608 /dev/zero | zstd -q -c -' ], '>', \$out) };
	my @bombs;
	for my $claimed (length $good, 0x3f000000)
	{
		my $origin_end = length($good) - unpack('N', substr $good, 12, 4);
		my $bomb = substr($good, 0, $origin_end) . $out;
		substr($bomb, 4, 1) = chr(ord(substr $bomb, 4, 1) | 1);
		substr($bomb, $RAW_LEN_AT, 8) = pack 'NN', $claimed, length $out;
		push @bombs, sealed($bomb);
	}
	note length($out), ' bytes';
	my $verdict = verdicts('false', @bombs);
	is(join(' ', grep { !/^(TD013|54000|53200)$/ } keys %$verdict), '', 'a bomb is refused');
}

# Frames of others, and those that don't follow.
my $later = $mesh->sql('us', 'SELECT pg_current_wal_lsn()');
my $gap = verdicts('false', frame_of('INSERT INTO hostileabc.a_victim (id) VALUES (30)', "--start=$later"));
is_deeply($gap, { TD011 => 1 }, 'a gap: TD011') or diag(explain($gap));
is_deeply(verdicts('false', frame_of('INSERT INTO hostileabc.a_victim (id) VALUES (31)', '--system-id=1')), { TD012 => 1 }, 'another server: TD012');
is_deeply(verdicts('false', frame_of('INSERT INTO hostileabc.a_victim (id) VALUES (32)', '--timeline=9')), { TD012 => 1 }, 'another timeline: TD012');
my $foreign = verdicts('false', frame_of('INSERT INTO hostileabc.a_victim (id) VALUES (33)', '--region=mars'));
is($foreign->{ok} // 0, 0, 'another region: refused');

# Tables that nobody added: the system's, ours, and others of the user's.
sub renamed
{
	my ($frame, @names) = @_;
	while (my ($from, $to) = splice @names, 0, 2)
	{
		die 'lengths differ' if length $from != length $to;
		$frame =~ s/\Q$from\E/$to/g or die "no $from";
	}
	return sealed($frame);
}
my $victim = frame_of('INSERT INTO hostileabc.a_victim (id, v) VALUES (40, \'x\'); DELETE FROM hostileabc.a_victim WHERE id = 40; TRUNCATE hostileabc.a_victim');
my $other = frame_of(q{INSERT INTO abcd.efgh VALUES (41, 'x'); TRUNCATE abcd.efgh});
my %before = map { $_ => $mesh->sql('eu', "SELECT count(*) FROM $_") } qw(pg_class tide.link abcd.ijkl);
$mesh->sql('eu', q{INSERT INTO abcd.ijkl VALUES (1, 'here')});
for my $case (
	[ 'a system catalog', renamed($victim, 'hostileabc', 'pg_catalog', 'a_victim', 'pg_class') ],
	[ 'a table of pg_tide', renamed($other, 'abcd', 'tide', 'efgh', 'link') ],
	[ 'a table that is not replicated', renamed($other, 'efgh', 'ijkl') ])
{
	my ($what, $frame) = @$case;
	my $hex = unpack 'H*', $frame;
	for my $careful (qw(false true))
	{
		$mesh->error_of('eu', "BEGIN; SELECT tide.apply('link:us-east', $epoch, '\\x$hex', $careful); COMMIT", 'relay');
	}
	is($mesh->sql('eu', 'SELECT count(*) FROM abcd.ijkl'), 1, "$what: not written");
	is($mesh->sql('eu', "SELECT count(*) FROM $_"), $before{$_}, "... $_ is as before") for qw(pg_class tide.link);
}

# Who may, and when.
my $hex = unpack 'H*', $good;
$mesh->sql('eu', 'CREATE ROLE nobody LOGIN');
like($mesh->error_of('eu', "SELECT tide.apply('link:us-east', $epoch, '\\x$hex', false)", 'nobody'), qr/42501/, 'not for everybody');
like($mesh->error_of('eu', "SELECT tide.apply('link:us-east', $epoch - 1, '\\x$hex', false)", 'relay'), qr/TD001/, 'not with an old epoch');
unlike($mesh->error_of('eu', "SELECT tide.apply($_, '\\x$hex', false)", 'relay'), qr/^$|XX000/, "not for $_")
  for q{'link:mars', 1}, q{NULL, 1}, qq{'link:us-east', NULL};

# And then everything goes on.
is($mesh->sql('eu', q{SELECT count(*) FROM tide.parked_change}), 0, 'nothing of it stayed');
$mesh->start_relays;
$mesh->settle_one('us', 'eu');
$mesh->same_tables('afterwards: equal', [qw(hostileabc.a_victim abcd.efgh)]);
unlike(PostgreSQL::Test::Utils::slurp_file($mesh->node('eu')->logfile), qr/terminated by signal|PANIC|TRAP/, 'no process crashed');
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
