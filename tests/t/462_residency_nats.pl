# Residency over brokers: each destination has a stream of its own, with what it may have, and the stream for all has nothing
# of such tables.  Proved from outside: all that the brokers keep, stream by stream, and every byte that crosses to a
# region, from the origin's server and from its broker, is searched for what may not go there; while rows flip between regions
# and relays, brokers and servers are killed.

use strict;
use warnings;

use File::Find qw(find);
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Mesh;
use PgTide::Recorder;
use PgTide::RowKills;
use PgTide::Test qw(wait_until);

my %LEAF = (eu => 7431, ap => 7432);
my (%leaf, %wire);
$leaf{$_} = PgTide::Recorder->new(name => "leaf_$_", port => $LEAF{$_}, target => '127.0.0.1:7422', dir => "$ENV{TESTDATADIR}/leaf_$_") for keys %LEAF;
my $mesh = PgTide::Mesh->new(transport => 'nats', sides => [qw(us eu ap)], know => 0, leaf_port => \%LEAF,
	link_options => { compression => 0 }, conf => "restart_after_crash = on\n");
my ($US, $EU, $AP) = @PgTide::Mesh::REGION{qw(us eu ap)};
my $true = JSON::PP::true;
$wire{eu} = PgTide::Recorder->new(name => 'wire_eu', port => 6543, server => $mesh->node('us'), dir => "$ENV{TESTDATADIR}/wire_eu");
$wire{ap} = PgTide::Recorder->new(name => 'wire_ap', port => 6544, server => $mesh->node('us'), dir => "$ENV{TESTDATADIR}/wire_ap");

sub know
{
	my ($at, $region, $conninfo) = @_;
	return $mesh->sql($at, sprintf 'SELECT tide.region_add(%s, %s)', map { PgTide::Duo::literal($_) } $region, $conninfo);
}

sub doctor
{
	my ($side) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$mesh->node($side)->relay_conninfo}" --json 2>&1`;
	my $document = eval { decode_json($out) } // do { diag($out); {} };
	return [ sort map { join ' ', $_->{level}, $_->{check}, $_->{subject} // '-', $_->{message} }
		  grep { $_->{level} =~ /warn|error|skip/ && $_->{check} ne 'rows.clock' } @{ $document->{findings} } ];
}

sub well
{
	my ($side, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found;
	wait_until(sub { $found = doctor($side); !@$found }, 30, "a healthy $side");
	return is_deeply($found, [], $name);
}

# What adding a link says.  The relay of ap has to find out the origin's JetStream domain by itself.
sub link_says
{
	my ($to, $from, %options) = @_;
	my $err = '';
	my %given = $mesh->transport_options($to, $from);
	delete $given{peer_domain} if $to eq 'ap';
	$mesh->node($to)->psql('postgres', sprintf('SELECT tide.link_add(%s, %s)', PgTide::Duo::literal($PgTide::Mesh::REGION{$from}),
		PgTide::Duo::jsonb({ %given, compression => 0, %options })), stderr => \$err);
	return $err;
}

sub sent
{
	my ($at, $region) = @_;
	return $mesh->sql($at, "SELECT DISTINCT sent FROM tide.residency_audit() WHERE region = '$region'");
}

# ---- searching ----

# Values say who may have them.
my %MAY = (
	eu     => [qw(EUROPE COMMON)],
	ap     => [qw(ASIATIC COMMON HIDDEN-ap)],
	shared => [qw(COMMON)]);
my @VALUES = qw(EUROPE ASIATIC AMERICA COMMON HIDDEN-eu HIDDEN-ap HIDDEN-us);

sub may_not
{
	my ($who) = @_;
	my %may = map { $_ => 1 } @{ $MAY{$who} };
	return grep { !$may{$_} } @VALUES;
}

# The files of one stream of a broker (undef: all that it has), as one text.
sub kept
{
	my ($side, $stream) = @_;
	my $text = '';
	find(
		sub {
			return unless -f && (!defined $stream || $File::Find::name =~ m{/streams/\Q$stream\E/});
			open my $in, '<:raw', $_ or return;
			local $/;
			$text .= <$in> // '';
		},
		$mesh->nats($side)->{dir} . '/data');
	return $text;
}

sub clean
{
	my ($text, $who, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', grep { index($text, $_) >= 0 } may_not($who)), '', "$name: nothing of others");
	return is(join(' ', grep { index($text, $_) >= 0 } @{ $MAY{$who} }), join(' ', @{ $MAY{$who} }), "... and its own");
}

sub crossed
{
	my ($side, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return clean(join('', map { $_->from_server } $leaf{$side}, $wire{$side}), $side, "$name: what crossed to $side");
}

sub own_stream { return "TIDE_ROWS_$US+$PgTide::Mesh::REGION{$_[0]}"; }

# ---- set up ----

$mesh->sql_all(<<'END');
CREATE TABLE goods (id int PRIMARY KEY, body text);
CREATE TABLE customer (id int PRIMARY KEY, region text NOT NULL, name text, secret text, n int NOT NULL DEFAULT 0);
END
know('us', $EU, $mesh->conninfo('eu'));
know('us', $AP, $mesh->conninfo('ap'));
know($_, $US, $wire{$_}->conninfo) for qw(eu ap);
$mesh->class('shop');
# us has all; eu its rows, without secrets; ap its rows.
my $rule = { column => 'region', regions => { $US => $true, $EU => { without => ['secret'] } } };
$mesh->class('people', residency => $rule);
$mesh->add_table('goods', 'shop');
$mesh->add_table('customer', 'people');
my $write = <<"END";
UPDATE customer SET n = n + 1, region = r, name = CASE r WHEN '$EU' THEN 'EUROPE' WHEN '$AP' THEN 'ASIATIC' ELSE 'AMERICA' END || n,
	secret = 'HIDDEN-' || left(r, 2)
	FROM (SELECT id AS i, (ARRAY['$US', '$EU', '$AP'])[(id / 3 + n + :round) % 3 + 1] AS r FROM customer) x WHERE i = id AND id % 3 = :part AND id < 10000;
INSERT INTO goods VALUES (:round * 10 + :part, 'COMMON ' || :round) ON CONFLICT (id) DO UPDATE SET body = excluded.body;
END

sub write_rows
{
	my ($round, $part) = @_;
	return $write =~ s/:round/$round/gr =~ s/:part/$part/gr;
}
$mesh->sql('us', q{INSERT INTO customer (id, region) SELECT n, 'us-east' FROM generate_series(1, 300) n});
$mesh->sql('us', join ' ', map { write_rows(0, $_) } 0 .. 2);

# ---- one with a stream of its own, one without ----

is(link_says('eu', 'us', own_stream => $true), '', 'a link with its own stream: nothing to warn of');
like(link_says('ap', 'us'), qr/WARNING: .*nothing of them comes from us-east\nHINT:  .*"own_stream": true/, 'one without: said at once, with what to do');
like(
	$mesh->error_of('ap', sprintf q{SELECT tide.link_add('us-east', '{"transport": "nats", "url": "nats://h", "own_stream": true, "stream": "S"}')}),
	qr/"own_stream" can't be used together with "stream"/, 'its stream has a name of its own');
$mesh->start_relays;
ok(defined $mesh->wait_copied('eu', 'us', 120), 'eu has its copies');
ok(defined $mesh->wait_streaming('ap', 'us', 120), 'ap streams');
$mesh->sql('us', join ' ', map { write_rows(1, $_) } 0 .. 2);
$mesh->settle_one('us', $_) for qw(eu ap);
is($mesh->sql('eu', q{SELECT count(*), min(left(name, 6)), max(left(name, 6)), count(secret) FROM customer}),
	$mesh->sql('us', qq{SELECT count(*) FROM customer WHERE region = '$EU'}) . '|EUROPE|EUROPE|0', 'eu has its rows, without what is denied');
is($mesh->sql('ap', 'SELECT (SELECT count(*) FROM customer), (SELECT count(*) FROM goods)'), '0|6', 'ap has the other table alone');
clean(kept('us', "TIDE_ROWS_$US"), 'shared', 'the stream for all');
clean(kept('us', own_stream('eu')), 'eu', "eu's stream");
crossed('eu', 'so far');
is(join(' ', grep { index(join('', map { $_->from_server } $leaf{ap}, $wire{ap}), $_) >= 0 } @VALUES), 'COMMON', 'what crossed to ap has nothing of that table');
is_deeply([ sent('us', $EU), sent('us', $AP), sent('ap', $AP), sent('eu', $EU) ],
	[ 'own stream', 'not sent: residency needs "own_stream": true, or a direct link', 'not taken from us-east: residency needs "own_stream": true, or a direct link', 'this region' ],
	'the audit says how each gets it');
is_deeply(doctor('ap'), [
	qq{warn link.residency public.customer region "$US": what region "$AP" may have is not sent: residency needs "own_stream": true, or a direct link},
	qq{warn rows.residency public.customer this region: what region "$AP" may have is not taken from $US: residency needs "own_stream": true, or a direct link} ],
	'the doctor, too, and nothing else');
my $err = '';
$mesh->node('us')->psql('postgres', q{SELECT tide.table_add('customer', 'people')}, stderr => \$err);
like($err, qr/WARNING: .*nothing of them goes to ap-east\nHINT:  There, add "own_stream": true/, '... and whoever adds a table there');
is($mesh->sql('us', q{SELECT string_agg(region, ' ' ORDER BY region) FROM tide.slots}), "$AP $EU", 'slots are known by who needs them');
cmp_ok($mesh->relay('us')->metric('pg_tide_row_frames_sent_total', qr/pipeline="rows:publish:eu-west"/), '>', 0, 'metrics by publisher');

# ---- the other one gets one, too, while rows are written ----

$mesh->sql('us', write_rows(2, $_)) for 0 .. 2;
like(link_says('ap', 'us', own_stream => $true), qr/^(?:psql:[^\n]*)?NOTICE: .*are copied again/, 'switched: said what that means')
  or diag($mesh->sql('ap', 'SELECT options FROM tide.link'));
$mesh->sql('us', write_rows(3, $_)) for 0 .. 2;
ok(defined $mesh->wait_value('ap', q{SELECT resyncs = 1 AND phase = 'streaming' AND state = 'streaming' FROM tide.links}, 't', 120), 'ap has been copied again');
ok(defined $mesh->wait_copied('ap', 'us', 120), '... all of it');
ok(defined $mesh->wait_value('us', q{SELECT string_agg(pipeline, ' ' ORDER BY pipeline) FROM tide.rows_publisher}, "rows:publish:$AP rows:publish:$EU"), 'a publisher each, and none for all');
ok(defined wait_until(sub { !defined $mesh->nats($_)->stream_messages("TIDE_ROWS_$US") }, 60, "the stream for all to go in $_"), "... whose stream is gone in $_") for qw(us ap);
ok(defined $mesh->wait_value('us', q{SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'tide\_rows\_%'}, 2, 90), '... and its slot');

# ---- the other way, too; rows that flip, and everything is killed now and then ----

know('us', $EU, $mesh->conninfo('eu'));
is(link_says('us', 'eu', own_stream => $true), '', 'us takes rows from eu, by such a stream');
ok(defined $mesh->wait_copied('us', 'eu', 120), '... and streams');
my $seed = $ENV{TIDE_SEED} // time ^ $$;
note "seed $seed (TIDE_SEED=$seed repeats it)";
srand $seed;
my @kills = ((map { my $side = $_; map { [ relay => $side ] } 1 .. 3 } qw(us eu ap)), [ broker => 'us' ], [ broker => 'us' ], [ broker => 'eu' ], [ broker => 'ap' ], [ server => 'eu' ], [ server => 'us' ], [ backend => 'us' ]);
@kills = sort { $a->[2] <=> $b->[2] } map { [ @$_, rand ] } @kills;
for my $round (4 .. 3 + @kills)
{
	$mesh->sql('us', write_rows($round, $_)) for 0 .. 2;
	sleep rand(0.6);
	my ($what, $side) = @{ $kills[ $round - 4 ] };
	PgTide::RowKills->can("kill_$what")->($mesh, $side);
	$mesh->sql('us', "BEGIN; UPDATE customer SET region = '$EU', name = 'EUROPE', secret = 'HIDDEN-eu' WHERE id % 30 = 0; "
		. "UPDATE customer SET region = '$AP', name = 'ASIATIC', secret = 'HIDDEN-ap' WHERE id % 30 = 0; "
		. "UPDATE customer SET region = '$EU', name = 'EUROPE', secret = 'HIDDEN-eu' WHERE id % 60 = 0; COMMIT");
	# What eu writes and may not keep.
	$mesh->sql('eu', "INSERT INTO customer SELECT 10000 + $round * 10 + n, '$US', 'of eu' FROM generate_series(1, 3) n");
}
# Larger than a frame, and none of it for anybody.
$mesh->sql('us', q{INSERT INTO customer SELECT 100000 + n, 'us-east', repeat('AMERICA', 30), 'HIDDEN-us' FROM generate_series(1, 10000) n; DELETE FROM customer WHERE id > 100000});
$mesh->settle_one('us', $_, 180) for qw(eu ap);
$mesh->settle_one('eu', 'us', 180);
for my $side (qw(eu ap))
{
	my $region = $PgTide::Mesh::REGION{$side};
	my $columns = $side eq 'eu' ? 'id, region, name, n, tide_stamp' : 'c';
	my $query = "SELECT count(*), md5(string_agg(($columns)::text, ',' ORDER BY id)) FROM customer c WHERE region = '$region'";
	is($mesh->sql($side, $query), $mesh->sql('us', $query), "$side has exactly its rows, as us has them");
	is($mesh->sql($side, "SELECT rows_against - rows_own, values_against FROM tide.residency_audit() WHERE region = '$region'"), '0|0', '... and nothing against policy');
}
is($mesh->sql('us', q{SELECT count(*) FROM customer WHERE name = 'of eu'}), 3 * @kills, 'us has what eu wrote for it');
ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM customer WHERE name = 'of eu'}, 0, 90), '... and eu hands it over');
$mesh->same_tables('the table without residency is the same everywhere', ['goods']);
is($mesh->sql('eu', 'SELECT resyncs FROM tide.links'), 0, 'nothing was copied twice');
is($mesh->sql($_, 'SELECT count(*) FROM tide.pending_changes'), 0, "nothing is parked in $_") for $mesh->sides;
clean(kept('us', own_stream($_)), $_, "after the kills: the stream of $_") for qw(eu ap);
crossed($_, 'after the kills') for qw(eu ap);
# What each region's own broker has of us.
clean(kept('eu', own_stream('eu')), 'eu', 'the broker of eu');
clean(kept('ap'), 'ap', 'the broker of ap');
well($_, "$_ is well") for $mesh->sides;

# ---- a rule that is made tighter ----

my $tight = { %$rule, regions => { %{ $rule->{regions} }, $AP => JSON::PP::false } };
sub alter { return $mesh->sql($_[0], sprintf q{SELECT count(*) FROM tide.class_alter('people', %s)}, PgTide::Duo::jsonb({ residency => $_[1] })); }
alter('us', $tight);
$MAY{ap} = [qw(ASIATIC COMMON HIDDEN-ap)];
push @VALUES, 'TIGHTER';
$mesh->sql('us', "UPDATE customer SET name = 'TIGHTER' WHERE region = '$AP'");
$mesh->settle_one('us', $_) for qw(eu ap);
alter($_, $tight) for qw(eu ap);
ok(defined $mesh->wait_value('ap', 'SELECT count(*) FROM customer', 0, 60), 'tighter: what was there goes');
crossed($_, 'tighter') for qw(eu ap);
is($mesh->sql('us', q{SELECT count(*) FROM customer WHERE name = 'TIGHTER'}) > 0, 1, '... there only');

# ---- an end ----

# Forgotten by one side only: the other says so.
$mesh->sql('ap', "SELECT tide.link_remove('$US', force => true)");
my @left;
wait_until(sub { @left = grep { /link\.orphan/ } @{ doctor('us') } }, 30, 'the doctor to see it');
is_deeply(\@left, [qq{warn link.orphan $AP WAL is kept for it, to be published on a broker: region "$AP" has no such link}], 'a link that was forgotten: the doctor of the origin says who is waited for');
$mesh->sql('us', "SELECT tide.rows_leave('$AP')");
ok(defined $mesh->wait_value('us', q{SELECT string_agg(pipeline, ' ') FROM tide.rows_publisher}, "rows:publish:$EU"), '... and that ends it');
# Back to the stream for all: nothing was missed in that.
my $epoch = $mesh->sql('eu', 'SELECT epoch FROM tide.pipeline WHERE name = ' . PgTide::Duo::literal("link:$US"));
link_says('eu', 'us');
ok(defined $mesh->wait_value('us', q{SELECT string_agg(pipeline, ' ') FROM tide.rows_publisher}, 'rows:publish', 60), 'back to the stream for all');
$mesh->sql('us', q{INSERT INTO goods VALUES (9999, 'COMMON')});
$mesh->settle_one('us', 'eu', 120);
is($mesh->sql('eu', 'SELECT count(*) FROM goods WHERE id = 9999'), 1, '... rows come');
ok(defined wait_until(sub { !defined $mesh->nats($_)->stream_messages(own_stream('eu')) }, 60, "the own stream to go in $_"), "... its own stream is gone in $_") for qw(us eu);
link_says('eu', 'us', own_stream => $true);
ok(defined $mesh->wait_value('us', q{SELECT string_agg(pipeline, ' ') FROM tide.rows_publisher}, "rows:publish:$EU", 60), 'and again its own');
ok(defined $mesh->wait_copied('eu', 'us', 120), '... copied again');
$mesh->settle_one('us', 'eu', 120);
$mesh->unlink(@$_) for [qw(eu us)], [qw(us eu)];
ok(defined $mesh->wait_value($_, 'SELECT count(*) FROM tide.link', 0, 60), "links are removed in $_") for qw(eu us);
for my $side (qw(us eu))
{
	ok(defined wait_until(sub { $mesh->slots($side) eq '' }, 90, "slots of $side to go"), "no slot stays in $side");
	is($mesh->sql($side, q{SELECT count(*) FROM tide.pipeline WHERE direction = 'rows'}), 0, '... no publisher');
	for my $stream (own_stream('eu'), "TIDE_ROWS_$EU+$US", "TIDE_ROWS_$US")
	{
		ok(defined wait_until(sub { !defined $mesh->nats($side)->stream_messages($stream) }, 60, "$stream to go in $side"), "... no stream $stream");
	}
}
crossed('eu', 'in the end');

is_deeply($mesh->stop, { map { $_ => 0 } $mesh->sides }, 'the relays end with status 0');
$_->stop for values %leaf, values %wire;
done_testing();
