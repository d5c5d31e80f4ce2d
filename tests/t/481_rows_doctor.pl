# The doctor on rows: nothing to say about regions that fit each other, and the thing's name for each fault.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Mesh;
use PgTide::Relay;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;

# ({"check subject" => [findings]}, exit status)
sub doctor
{
	my ($side) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$mesh->node($side)->relay_conninfo}" --json 2>&1`;
	my $status = $? >> 8;
	my $document = eval { decode_json($out) } // do { diag($out); {} };
	my %found;
	push @{ $found{ join ' ', $_->{check}, $_->{subject} // () } }, $_ for @{ $document->{findings} };
	return (\%found, $status);
}

sub wrong
{
	my ($found) = @_;
	return [ sort map { "$_->{level} $_->{check}: $_->{message}" } grep { $_->{level} =~ /warn|error|skip/ }
		  map { @$_ } values %$found ];
}

# A finding of that level about that check and subject, whose message and hint match; and the exit status.
sub finds
{
	my ($side, $level, $check, $message, $hint, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($found, $status) = doctor($side);
	my ($finding) = grep { $_->{level} eq $level && $_->{message} =~ $message } @{ $found->{$check} // [] };
	ok($finding, "$name: $level $check")
	  or diag(explain($found->{$check}, wrong($found)));
	like($finding->{hint} // '', $hint, '... and the hint says what to do');
	is($status, $level =~ /warn|error/ ? 1 : 0, '... and the exit status tells');
	return;
}

sub healthy
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $side ($mesh->sides)
	{
		my ($found, $status);
		# What was just put right may take the relay a moment: a slot is read again, lag shrinks.
		wait_until(sub { ($found, $status) = doctor($side); $status == 0 }, 30, "a healthy $side");
		is($status, 0, "$name: nothing wrong in $side");
		is_deeply(wrong($found), [], '... no warning, no error, nothing left out');
	}
	return;
}

# Breaks something, looks, and mends it.
sub fault
{
	my ($side, $break, $mend, @expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($where, $sql) = @$break;
	$mesh->sql($where, $sql);
	finds($side, @expected);
	$mesh->sql($where, $mend) if defined $mend;
	return;
}

sub set_up
{
	$mesh->sql_all(<<~'END');
		CREATE TABLE goods (id int PRIMARY KEY, name varchar(20) NOT NULL, price numeric CHECK (price < 1000));
		CREATE TABLE notes (id int PRIMARY KEY, body text);
		CREATE TABLE parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
		END
	$mesh->class('shop');
	$mesh->add_table($_, 'shop') for qw(goods notes parts);
	$mesh->link_all;
	$mesh->start_relays;
	ok(defined $mesh->wait_copied(@$_), "$_->[0] has its copy of $_->[1]") for $mesh->ways;
	$mesh->sql('us', q{INSERT INTO goods VALUES (1, 'pen', 1)});
	$mesh->settle;
	return;
}

# ---- one region ----

# Publications are guarded; a superuser can do it all the same.
my $BY_HAND = 'SET session_replication_role = replica; ';

sub test_tables
{
	fault('eu', [ 'eu', 'ALTER TABLE goods DISABLE TRIGGER tide_stamp' ], 'ALTER TABLE goods ENABLE TRIGGER tide_stamp',
		'error', 'rows.tables public.goods', qr/tide_stamp is disabled/, qr/SELECT tide\.table_add\('public\.goods', 'shop'\)/, 'a disabled trigger');
	fault('eu', [ 'eu', 'ALTER TABLE goods ENABLE ALWAYS TRIGGER tide_stamp' ], 'ALTER TABLE goods ENABLE TRIGGER tide_stamp',
		'error', 'rows.tables public.goods', qr/ALWAYS/, qr/table_add/, 'a trigger that fires for what arrives');
	fault('eu', [ 'eu', 'ALTER TABLE parts_1 DISABLE TRIGGER tide_stamp' ], 'ALTER TABLE parts_1 ENABLE TRIGGER tide_stamp',
		'error', 'rows.tables public.parts', qr/partitions: public\.parts_1/, qr/ENABLE TRIGGER/, 'a trigger disabled in a partition');
	fault('us', [ 'us', 'ALTER TABLE notes REPLICA IDENTITY NOTHING' ], 'ALTER TABLE notes REPLICA IDENTITY DEFAULT',
		'error', 'rows.tables public.notes', qr/replica identity is NOTHING/, qr/REPLICA IDENTITY DEFAULT/, 'no replica identity');
	fault('us', [ 'us', 'ALTER TABLE notes DROP CONSTRAINT notes_pkey' ], 'ALTER TABLE notes ADD PRIMARY KEY (id)',
		'error', 'rows.tables public.notes', qr/no key/, qr/primary key/, 'a table that lost its key');
	fault('us', [ 'us', $BY_HAND . 'ALTER PUBLICATION tide_global DROP TABLE notes' ], $BY_HAND . 'ALTER PUBLICATION tide_global ADD TABLE notes',
		'error', 'rows.tables public.notes', qr/missing from publication tide_global/, qr/table_add\('public\.notes', 'shop'\)/, 'a table taken out of the publication');
	fault('us', [ 'us', $BY_HAND . q{ALTER PUBLICATION tide_global SET (publish = 'insert, update')} ],
		$BY_HAND . q{ALTER PUBLICATION tide_global SET (publish = 'insert, update, delete, truncate')},
		'error', 'rows.publications tide_global', qr/"delete" is off/, qr/table_add/, 'a publication somebody changed');
	fault('eu', [ 'eu', 'ALTER TABLE goods ENABLE ROW LEVEL SECURITY' ], 'ALTER TABLE goods DISABLE ROW LEVEL SECURITY',
		'error', 'rows.tables public.goods', qr/row security/, qr/DISABLE ROW LEVEL SECURITY/, 'row security on a target');
	fault('eu', [ 'eu', 'REVOKE INSERT, DELETE ON goods FROM tide_relay' ], 'GRANT INSERT, DELETE ON goods TO tide_relay',
		'error', 'rows.tables public.goods', qr/lacks INSERT, DELETE/, qr/table_add\('public\.goods', 'shop'\)/, 'missing rights');
	fault('us', [ 'us', q{CREATE PUBLICATION mine FOR ALL TABLES; SELECT tide.class_create('kept', '{"scope": "regional"}'); CREATE TABLE kept (id int PRIMARY KEY); SELECT tide.table_add('kept', 'kept')} ],
		q{DROP PUBLICATION mine; DROP TABLE kept; SELECT tide.class_drop('kept')},
		'warn', 'rows.tables public.kept', qr/class "kept" says what may leave, but .* not pg_tide's: mine/, qr/take the table out of them/, 'what may not leave, in a publication of somebody else');
	healthy('all mended');
	return;
}

sub test_parked
{
	$mesh->sql('us', 'ALTER TABLE goods DROP CONSTRAINT goods_price_check');
	$mesh->sql('us', q{INSERT INTO goods VALUES (2, 'gold', 5000)});
	$mesh->wait_value('eu', 'SELECT count(*) FROM tide.pending_changes', 1, 30);
	finds('eu', 'warn', 'rows.parked us-east', qr/1 change\(s\) of public\.goods are parked.*goods_price_check/,
		qr/pending_retry/, 'a parked change');
	$mesh->sql('eu', 'ALTER TABLE goods DROP CONSTRAINT goods_price_check');
	$mesh->sql('eu', 'SELECT tide.pending_retry(id) FROM tide.pending_changes');
	healthy('retried');
	return;
}

# ---- two regions ----

sub test_alike
{
	fault('eu', [ 'us', 'ALTER TABLE notes ADD COLUMN extra int' ], 'ALTER TABLE notes DROP COLUMN extra',
		'error', 'link.alike public.notes', qr/column "extra" of region "us-east" is missing here/, qr/ADD COLUMN "extra" integer/,
		'a column that is missing');
	fault('eu', [ 'eu', 'ALTER TABLE notes ADD COLUMN must int NOT NULL' ], 'ALTER TABLE notes DROP COLUMN must',
		'error', 'link.alike public.notes', qr/column "must" is NOT NULL without a default here/, qr/default/, 'a column that nobody sends');
	fault('eu', [ 'us', 'ALTER TABLE notes ALTER body TYPE varchar' ], 'ALTER TABLE notes ALTER body TYPE text',
		'error', 'link.alike public.notes', qr/"body" is text here and character varying in region "us-east"/, qr/same type/, 'another type');
	fault('eu', [ 'us', 'ALTER TABLE goods ALTER name TYPE varchar(30)' ], undef,
		'warn', 'link.alike public.goods', qr/"name" is character varying\(20\) here and character varying\(30\)/, qr/same type/, 'a narrower type');
	$mesh->sql('eu', 'ALTER TABLE goods ALTER name TYPE varchar(30)');
	fault('eu', [ 'us', q{SELECT tide.class_alter('shop', '{"slo": "1 minute"}')} ], undef,
		'warn', 'link.classes shop', qr/slo is 00:00:05 here, 00:01:00 in region "us-east"/, qr/class_alter/, 'a class changed in one region only');
	ok(defined $mesh->wait_value('eu', q{SELECT differences::text FROM tide.classes WHERE class = 'shop' AND NOT agrees},
		'{"slo is 00:00:05 here, 00:01:00 in region \\"us-east\\""}', 10), '... which tide.classes shows');
	is($mesh->relay('eu')->metric('pg_tide_classes_differ', qr/link:us-east/), 1, '... and /metrics');
	ok(defined wait_until(sub { $mesh->relay('eu')->log_text =~ /class \\?"shop\\?": slo is 00:00:05 here, 00:01:00 in region/ }, 10, 'the log'), '... and the log');
	$mesh->sql('us', q{SELECT tide.class_alter('shop', '{"slo": null}')});
	ok(defined $mesh->wait_value('eu', q{SELECT agrees FROM tide.classes WHERE class = 'shop'}, 't', 10), '... until it is put right');
	fault('eu', [ 'us', q{SELECT tide.class_create('more', '{"scope": "global"}')} ], q{SELECT tide.class_drop('more')},
		'note', 'link.classes more', qr/declared in region "us-east", not here/, qr/class_alter/, 'a class that only the other has is but a note');
	healthy('all alike');
	return;
}

sub test_one_sided
{
	$mesh->sql_all('CREATE TABLE lonely (id int PRIMARY KEY)');
	$mesh->sql('us', q{SELECT tide.table_add('lonely', 'shop')});
	finds('eu', 'warn', 'link.tables public.lonely', qr/rows of region "us-east" don't arrive: it exists, but is not added, here/,
		qr/here: SELECT tide\.table_add\('public\.lonely', 'shop'\)/, 'a table forgotten here');
	finds('us', 'warn', 'link.tables public.lonely', qr/nothing comes from region "eu-west": it exists, but is not added, in region "eu-west"/, qr/in region "eu-west": SELECT tide\.table_add/,
		'... and seen from the other side');
	$mesh->sql('eu', 'DROP TABLE lonely');
	finds('eu', 'note', 'link.tables public.lonely', qr/no such table/, qr/table_add/, 'a table that is not here at all is but a note');
	$mesh->sql('us', q{SELECT tide.table_remove('lonely')});
	$mesh->sql('us', 'DROP TABLE lonely');
	healthy('alone no more');
	return;
}

sub test_role
{
	fault('eu', [ 'us', 'ALTER ROLE relay NOREPLICATION' ], 'ALTER ROLE relay REPLICATION',
		'error', 'link.role us-east', qr/role relay may not read the WAL/, qr/ALTER ROLE relay REPLICATION/, 'no right to replicate');
	$mesh->sql('us', 'CREATE ROLE poor LOGIN REPLICATION');
	my $poor = $mesh->conninfo('us') =~ s/user='?relay'?/user=poor/r;
	$mesh->sql('eu', "UPDATE tide.region SET conninfo = " . PgTide::Duo::literal($poor));
	my ($found, $status) = doctor('eu');
	is($status, 1, 'a role that is no member of tide_relay');
	like($found->{'link.reach us-east'}[0]{message}, qr/region "us-east" can't be asked: permission denied/, '... can ask nothing');
	$mesh->sql('eu', "UPDATE tide.region SET conninfo = " . PgTide::Duo::literal($mesh->conninfo('us')));
	return;
}

sub test_server
{
	my $known = $mesh->sql('us', q{SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'});
  SKIP:
	{
		skip('this server knows no output_plugin_libraries', 3) unless $known;
		$mesh->sql('us', q{ALTER SYSTEM SET output_plugin_libraries = 'test_decoding'});
		$mesh->node('us')->reload;
		$mesh->wait_value('us', 'SHOW output_plugin_libraries', 'test_decoding');
		finds('eu', 'error', 'link.server us-east', qr/output_plugin_libraries is "test_decoding"/, qr/add pgoutput/, 'a server that refuses pgoutput');
		$mesh->sql('us', 'ALTER SYSTEM RESET output_plugin_libraries');
		$mesh->node('us')->reload;
		$mesh->wait_value('us', 'SHOW output_plugin_libraries', qr/pgoutput/);
	}
	my $slots = q{SELECT count(*) FROM pg_replication_slots};
	my $free = $mesh->sql('us', "SELECT current_setting('max_replication_slots')::int - ($slots)");
	$mesh->sql('us', "SELECT pg_create_physical_replication_slot('filler_' || n) FROM generate_series(1, $free) n");
	finds('eu', 'warn', 'link.server us-east', qr/all 20 of max_replication_slots are in use/, qr/raise max_replication_slots/, 'no room for a slot');
	finds('us', 'warn', 'link.server', qr/all 20 of max_replication_slots are in use/, qr/raise max_replication_slots/, '... seen at home, too');
	$mesh->sql('us', "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'filler%'");
	healthy('room again');
	return;
}

# A shared object that shifts the server's clock.  Ahead: pg_ctl would not believe in a start before its own.
sub test_clock
{
	my $base = "$ENV{TIDE_DATA}/shift";
	open my $out, '>', "$base.c" or die "$base.c: $!";
	print $out <<'END';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	static int (*real)(struct timeval *, void *);
	if (!real) real = (int (*)(struct timeval *, void *)) dlsym(RTLD_NEXT, "gettimeofday");
	int r = real(tv, tz);
	tv->tv_sec += 3;
	return r;
}
END
	close $out;
	is(system('cc', '-shared', '-fPIC', '-o', "$base.so", "$base.c"), 0, 'a clock that is 3 s ahead');
	$mesh->node('us')->stop;
	{
		local $ENV{LD_PRELOAD} = "$base.so";
		$mesh->node('us')->start;
	}
	finds('eu', 'warn', 'link.clock us-east', qr/clock is [23]\.\d s ahead of this region's/, qr/NTP/, 'a clock that is ahead');
	finds('us', 'warn', 'link.clock eu-west', qr/clock is [23]\.\d s behind this region's/, qr/NTP/, '... seen from there: behind');
	$mesh->node('us')->restart;
	healthy('clocks agree');
	return;
}

sub test_unreachable
{
	$mesh->node('us')->stop;
	my ($found, $status) = doctor('eu');
	is($status, 1, 'a region that is down');
	my $reach = $found->{'link.reach us-east'}[0];
	is($reach->{level}, 'error', '... is an error');
	my $host = quotemeta $mesh->node('us')->host;
	my $port = $mesh->node('us')->port;
	like($reach->{message}, qr/region "us-east" can't be asked: .*$host.*$port/, '... naming region and address');
	is($found->{'rows.tables'}[0]{level}, 'ok', '... and the other checks went on');
	is($found->{"link.$_ us-east"}[0]{level}, 'skip', "... link.$_ says that it could not be checked")
	  for qw(role server slot tables alike clock);
	$mesh->node('us')->start;
	healthy('back again');
	return;
}

# ---- slots ----

sub slot_of_eu
{
	return $mesh->sql('eu', q{SELECT slot FROM tide.link WHERE region = 'us-east'});
}

sub test_orphans
{
	my $slot = slot_of_eu();
	(my $old = $slot) =~ s/_eu_west_/_eu_gone_/;
	$mesh->sql('us', "SELECT pg_create_logical_replication_slot(s, 'pgoutput') FROM unnest(ARRAY['$old', 'tide_link_mars_deadbeef']) s");
	finds('us', 'warn', 'link.orphan', qr/"tide_link_mars_deadbeef" keeps .* for nobody: no region known here/,
		qr/pg_drop_replication_slot\('tide_link_mars_deadbeef'\)/, 'a slot of a region nobody knows');
	finds('us', 'warn', 'link.orphan eu-west', qr/"$old" keeps .* region "eu-west" has no such link/,
		qr/pg_drop_replication_slot\('$old'\)/, 'a slot that its region does not use');
	finds('eu', 'warn', 'link.orphan us-east', qr/"$old" keeps .* this region has no such link/,
		qr/in region "us-east": SELECT pg_drop_replication_slot\('$old'\)/, '... seen from there');
	$mesh->sql('us', "SELECT pg_drop_replication_slot(s) FROM unnest(ARRAY['$old', 'tide_link_mars_deadbeef']) s");
	healthy('orphans gone');
	return;
}

# Nobody reads; then so much is written that the slot is lost; then it is gone.
sub test_slots
{
	my $slot = slot_of_eu();
	is($mesh->relay('eu')->stop, 0, 'eu-west\'s relay ends');
	$mesh->wait_value('us', "SELECT active FROM pg_replication_slots WHERE slot_name = '$slot'", 'f', 30);
	finds('eu', 'warn', 'link.slot us-east', qr/nobody reads slot "$slot"/, qr/relay running/, 'a slot that nobody reads');
	$mesh->sql('us', q{ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'});
	$mesh->node('us')->reload;
	for my $n (1 .. 20)
	{
		$mesh->sql('us', q{SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 17)});
		$mesh->sql('us', 'CHECKPOINT');
		last if $mesh->sql('us', "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '$slot'") ne 'reserved';
	}
	my $status = $mesh->sql('us', "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '$slot'");
	finds('eu', 'error', 'link.slot us-east', qr/"$slot" (?:is about to lose|has lost) its WAL \($status/, qr/max_slot_wal_keep_size/, "a slot that is $status");
	finds('us', 'error', 'link.orphan', qr/"$slot" (?:is about to lose|has lost) its WAL/, qr/max_slot_wal_keep_size/, '... seen at home');
	$mesh->sql('us', 'ALTER SYSTEM RESET max_slot_wal_keep_size');
	$mesh->node('us')->reload;
	$mesh->sql('us', "SELECT pg_drop_replication_slot('$slot')");
	finds('eu', 'error', 'link.slot us-east', qr/"$slot" is gone/, qr/copies the rows again/, 'a slot that is gone');

	$mesh->start_relay('eu');
	$mesh->wait_value('eu', q{SELECT resyncs FROM tide.link WHERE region = 'us-east'}, 1, 60);
	ok(defined $mesh->wait_copied('eu', 'us', 60), 'the relay has copied the rows again');
	finds('eu', 'note', 'rows.links us-east', qr/copied again 1 time\(s\); last because: ./, qr/slot/, 'a resync is remembered');
	return;
}

# No relay looks at the link while that is changed.
sub use_slot
{
	my ($slot) = @_;
	$mesh->sql('eu', q{SELECT tide.link_pause('us-east')});
	$mesh->wait_value('eu', q{SELECT owner IS NULL FROM tide.links WHERE region = 'us-east'}, 't');
	$mesh->sql('eu', "UPDATE tide.link SET slot = $slot WHERE region = 'us-east'");
	$mesh->sql('eu', q{SELECT tide.link_resume('us-east')});
	return;
}

sub test_states
{
	$mesh->sql('eu', q{SELECT tide.link_pause('us-east')});
	finds('eu', 'warn', 'pipeline.enabled link:us-east', qr/paused; the origin keeps its WAL/, qr/tide\.link_resume\('us-east'\)/, 'a paused link');
	$mesh->sql('us', q{SELECT pg_create_logical_replication_slot('nobodys', 'test_decoding')});
	use_slot(q{'nobodys'});
	ok(defined $mesh->wait_value('eu', 'SELECT state FROM tide.links', 'error'), 'a slot that is not ours');
	my $attempts = sub { $mesh->relay('eu')->metric('pg_tide_retries_total', qr/link:us-east/) };
	my ($first, @states) = ($attempts->());
	my $look = sub { push @states, $mesh->sql('eu', 'SELECT state FROM tide.links'); return $attempts->() >= $first + 3 };
	ok(defined wait_until($look, 90, 'attempts'), '... is tried again and again');
	is(join(' ', grep { $_ ne 'error' } @states), '', '... is an error while it is tried again, too');
	my $finding = (doctor('eu'))[0]->{'rows.state us-east'}[0];
	is($finding->{level}, 'error', 'a failing link: error rows.state us-east');
	like($finding->{message}, qr/slot "nobodys" is not ours: its plugin is "test_decoding"/, '... with its reason');
	like($finding->{hint}, qr/operations/, '... and where to read on');
	$mesh->sql('eu', q{SELECT tide.link_resync('us-east')});
	$mesh->wait_value('eu', q{SELECT phase FROM tide.link WHERE region = 'us-east'}, 'new');
	$first = $attempts->();
	ok(defined wait_until(sub { $attempts->() >= $first + 2 }, 90, 'attempts to begin anew'), '... so is beginning anew');
	is($mesh->sql('us', q{SELECT plugin FROM pg_replication_slots WHERE slot_name = 'nobodys'}), 'test_decoding', '... and that slot is left alone');
	use_slot(q{tide._link_slot('eu-west', 'us-east')});
	ok(defined $mesh->wait_streaming('eu', 'us'), 'its own slot again');
	$mesh->sql('us', q{SELECT pg_drop_replication_slot('nobodys')});
	return;
}

# A table that can't be copied: its changes are skipped, so somebody should know.
sub test_copy
{
	$mesh->sql('us', 'CREATE TABLE broken (id int PRIMARY KEY, n int)');
	$mesh->sql('us', q{INSERT INTO broken VALUES (1, 5)});
	$mesh->sql('eu', 'CREATE TABLE broken (id int PRIMARY KEY, n int CHECK (n < 5))');
	$mesh->add_table('broken', 'shop');
	ok(defined wait_until(sub { my ($found) = doctor('eu'); $found->{'link.copy public.broken'} }, 30, 'the news'), 'a copy that does not end');
	finds('eu', 'warn', 'link.copy public.broken', qr/no first copy from region "us-east" yet/, qr/mend/, '... is told');
	$mesh->sql('eu', 'ALTER TABLE broken DROP CONSTRAINT broken_n_check');
	ok(defined $mesh->wait_copied('eu', 'us', 120), '... and ends when it can');
	return;
}

# ---- the end of a link ----

sub test_removing
{
	$mesh->node('us')->stop;
	$mesh->unlink('eu', 'us');
	finds('eu', 'warn', 'rows.links us-east', qr/being removed/, qr/force/, 'a link whose other side is away');
	$mesh->node('us')->start;
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.link', 0, 60), 'it goes when that side is back');
	return;
}

sub test_wal_level
{
	$mesh->relay('us')->stop;
	$mesh->node('us')->append_conf('postgresql.conf', 'wal_level = replica');
	$mesh->node('us')->restart;
	$mesh->link('eu', 'us');
	finds('eu', 'error', 'link.server us-east', qr/wal_level is replica/, qr/wal_level = logical/, 'a server without logical decoding');
	finds('us', 'error', 'link.server', qr/wal_level is replica/, qr/wal_level = logical/, '... seen at home, since somebody wants rows');
	$mesh->unlink('eu', 'us');
	return;
}

set_up();
healthy('a good set-up');
test_tables();
test_parked();
test_alike();
test_one_sided();
test_role();
test_server();
test_orphans();
test_unreachable();
test_clock();
test_slots();
test_states();
test_copy();
test_removing();
test_wal_level();
$mesh->stop;
done_testing();
