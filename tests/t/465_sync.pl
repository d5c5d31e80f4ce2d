# Durability: commits of synchronous classes wait for another region, others don't; what a wait that ends early means.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);

use PgTide::Mesh;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;
my %OTHER = (us => 'eu', eu => 'us');

sub standby
{
	my ($origin, $peer) = @_;
	return $mesh->sql($origin, "SELECT tide._standby('$PgTide::Mesh::REGION{$peer}')");
}

# The server waits for these standbys, and every session knows.
sub list_standbys
{
	my ($side, $line) = @_;
	$mesh->sql($side, "ALTER SYSTEM SET synchronous_standby_names = '$line'");
	$mesh->node($side)->reload;
	defined $mesh->wait_value($side, 'SHOW synchronous_standby_names', $line) or die "not reloaded\n";
	return;
}

my $NAMES = 'synchronous_standby_names';
my $n = 0;

# A session that runs one piece of SQL by itself; ->wait_end, ->log_text.
sub session
{
	my ($side, @sql) = @_;
	$n++;
	return PgTide::Process->new(
		name    => "session $n",
		log     => "$ENV{TIDE_DATA}/session$n.log",
		command => [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose',
			'-d', $mesh->node($side)->connstr('postgres') . " application_name=session$n", map { ('-c', $_) } @sql ])->start;
}

sub waiting
{
	my ($side, $wanted) = @_;
	return defined $mesh->wait_value($side, q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}, $wanted);
}

sub counts
{
	my ($side, $class) = @_;
	return $mesh->sql($side, "SELECT waits, ended FROM tide.durability WHERE class = '$class'");
}

# The doctor's findings about the check of durability, by class: "level: message (hint)".
sub doctor
{
	my ($side) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$mesh->node($side)->relay_conninfo}" --json 2>&1`;
	my $document = eval { decode_json($out) } // do { diag($out); {} };
	my %found;
	$found{ $_->{subject} } .= "$_->{level}: $_->{message} ($_->{hint})\n" for grep { $_->{check} eq 'rows.durability' && defined $_->{subject} } @{ $document->{findings} };
	return \%found;
}

sub set_up
{
	$mesh->sql_all(<<~'END');
		CREATE TABLE ledger (id int PRIMARY KEY, v int);
		CREATE TABLE clicks (id int PRIMARY KEY, v int);
		CREATE TABLE ring (id int PRIMARY KEY, v int);
		CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
		CREATE TABLE bin (id int PRIMARY KEY);
		CREATE TABLE head (id int PRIMARY KEY);
		CREATE TABLE line (id int PRIMARY KEY, head int REFERENCES head ON DELETE CASCADE);
		END
	$mesh->class('money', durability => 'sync', peer => 'eu-west');
	$mesh->class('web');
	$mesh->sql($_, sprintf q{SELECT tide.class_create('mutual', '{"scope": "global", "durability": "sync", "peer": "%s"}')},
		$PgTide::Mesh::REGION{ $OTHER{$_} })
	  for $mesh->sides;
	$mesh->add_table($_, 'money') for qw(ledger parts bin line);
	$mesh->add_table($_, 'web') for qw(clicks head);
	$mesh->add_table('ring', 'mutual');
	$mesh->sql_all('CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)');
	like($mesh->error_of('us', 'INSERT INTO ledger VALUES (1, 1)'),
		qr/TD022.*"eu-west".*HINT:.*synchronous_standby_names = 'ANY 1 \(tide_link_eu_west_\w+\)'/s,
		'a write that could not wait is refused, and the hint has the line');
	$mesh->sql('eu', 'INSERT INTO ledger VALUES (1000, 1)');
	$mesh->link_all;
	$mesh->start_relays;
	ok(defined $mesh->wait_copied(@$_), "$_->[0] takes rows from $_->[1]") for $mesh->ways;
	list_standbys($_, 'ANY 1 (' . standby($_, $OTHER{$_}) . ')') for $mesh->sides;
	ok(defined $mesh->wait_value($_, 'SELECT sync_state FROM pg_stat_replication', 'quorum'), "$_ waits for the other") for $mesh->sides;
	return;
}

# What has returned is there; what is not there has not returned.
sub test_wait
{
	for my $id (1 .. 20)
	{
		$mesh->sql('us', "INSERT INTO ledger VALUES ($id, $id)");
		last if $mesh->sql('eu', "SELECT count(*) FROM ledger WHERE id = $id") != 1;
	}
	is($mesh->sql('eu', 'SELECT count(*) FROM ledger'), 21, 'a commit that has returned is in the other region');
	is(counts('us', 'money'), '20|0', '... and counted');

	$mesh->relay('eu')->freeze;
	my $session = session('us', 'INSERT INTO ledger VALUES (100, 1)');
	ok(waiting('us', 1), 'the peer stands still: a commit waits');
	my $start = time;
	$mesh->sql('us', "INSERT INTO clicks VALUES ($_, 1)") for 1 .. 20;
	ok(time - $start < 10, '... those of an asynchronous class do not');
	is($mesh->sql('us', 'SELECT count(*) FROM ledger WHERE id = 100'), 0, '... what waits is not seen yet');
	ok($session->alive, '... and waits on');
	$mesh->relay('eu')->thaw;
	is($session->wait_end(30), 0, '... until the peer has it');
	is($mesh->sql('eu', 'SELECT count(*) FROM ledger WHERE id = 100'), 1, '... as it does');
	is($session->log_text, '', '... without a word');
	return;
}

# Whatever way a table is written; each is one transaction that has to wait.  The peer stands still.
my %WAITS = (
	'COPY'                => "COPY ledger (id, v) FROM PROGRAM 'echo 201,1' CSV",
	'several tables'      => 'BEGIN; INSERT INTO clicks VALUES (201, 1); UPDATE ledger SET v = 2 WHERE id = 1; INSERT INTO clicks VALUES (202, 1); COMMIT',
	'a savepoint'         => 'BEGIN; SAVEPOINT a; INSERT INTO ledger VALUES (203, 1); RELEASE a; COMMIT',
	'a savepoint left'    => 'BEGIN; INSERT INTO ledger VALUES (204, 1); SAVEPOINT a; DELETE FROM ledger WHERE id = 3; ROLLBACK TO a; COMMIT',
	'a function'          => 'DO $$BEGIN PERFORM 1; DELETE FROM ledger WHERE id = 2; END$$',
	'a setting of its own' => 'SET synchronous_commit = off; INSERT INTO ledger VALUES (205, 1)',
	'a partitioned table' => 'INSERT INTO parts VALUES (1, 1)',
	'a partition'         => 'INSERT INTO parts_1 VALUES (2, 1)',
	'a later partition'   => 'UPDATE parts_2 SET v = 2',
	'a cascade'           => 'DELETE FROM head WHERE id = 1',
	'what is no table of ours' => 'CREATE TABLE not_ours_2 ()',
	'TRUNCATE'            => 'TRUNCATE bin');

my %PASSES = (
	'what is no table of ours and need not' => 'SET synchronous_commit = local; CREATE TABLE not_ours_1 ()',
	'an asynchronous class'     => 'INSERT INTO clicks VALUES (300, 1)',
	'no row'                    => 'UPDATE ledger SET v = 9 WHERE id = -1',
	'a transaction rolled back' => 'BEGIN; INSERT INTO ledger VALUES (301, 1); ROLLBACK',
	'reading'                   => 'SELECT count(*) FROM ledger',
	'a relay'                   => "SET tide.relay = on; CREATE TABLE relays_own ()");

sub test_kinds
{
	$mesh->sql('us', 'INSERT INTO parts VALUES (11, 1); INSERT INTO bin VALUES (1); INSERT INTO head VALUES (1); INSERT INTO line VALUES (1, 1)');
	$mesh->relay('eu')->freeze;
	for my $what (sort keys %PASSES)
	{
		my $session = session('us', $PASSES{$what});
		is($session->wait_end(20), 0, "does not wait: $what") or $session->kill9;
	}
	my %session = map { $_ => session('us', $WAITS{$_}) } sort keys %WAITS;
	ok(waiting('us', scalar keys %WAITS), 'all others wait') or diag map { "$_: " . $session{$_}->log_text } keys %session;
	ok($session{$_}->alive, "waits: $_") for sort keys %WAITS;
	$mesh->relay('eu')->thaw;
	ok(waiting('us', 0), 'until the peer goes on') or return;
	is($session{$_}->wait_end(10), 0, "ends: $_") for sort keys %WAITS;
	$mesh->settle;
	$mesh->same_tables('all of it is there', [qw(ledger clicks parts bin head line)]);
	like($mesh->error_of('us', "BEGIN; INSERT INTO ledger VALUES (302, 1); PREPARE TRANSACTION 'p'"),
		qr/0A000: .* synchronous class "money" cannot be prepared\n/, 'what nobody could wait for is refused: PREPARE TRANSACTION');
	is($mesh->sql('us', "BEGIN; INSERT INTO clicks VALUES (303, 1); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'; SELECT 'done'"), 'done',
		'... not of asynchronous classes');
	return;
}

# Each region waits for the other, under load from both sides.
sub test_mutual
{
	my %first = (us => 1, eu => 1_000_001);
	my @sessions;
	for my $side ($mesh->sides)
	{
		for my $k (0 .. 3)
		{
			my $from = $first{$side} + $k * 1000;
			push @sessions, session($side, "DO \$\$BEGIN FOR n IN $from .. $from + 99 LOOP INSERT INTO ring VALUES (n, 1); COMMIT; END LOOP; END\$\$");
		}
	}
	is(join(' ', map { $_->wait_end(60) // 'waits' } @sessions), join(' ', (0) x @sessions), 'two regions wait for each other, and both go on');
	is(join('', map { $_->log_text } @sessions), '', '... with nothing to say');
	$mesh->settle;
	$mesh->same_tables('... and have the same', ['ring']);
	is($mesh->sql('us', 'SELECT count(*) FROM ring'), 800, '... all of it');
	is(counts($_, 'mutual'), '400|0', "... every commit in $_ waited") for $mesh->sides;
	return;
}

# Waits that end without an answer: what the client hears, and what is shown.
sub test_ended
{
	$mesh->sql('us', q{SELECT tide.class_alter('mutual', '{"wait": "2 seconds"}')});
	$mesh->relay('eu')->freeze;

	my $start = time;
	my $session = session('us', "SET statement_timeout = '300ms'", 'INSERT INTO ring VALUES (5000, 1)', 'SELECT FROM pg_sleep(0.2)');
	is($session->wait_end(20), 0, 'a time limit (not statement_timeout): the commit stands, the next statement runs');
	my $took = time - $start;
	ok($took > 1.9 && $took < 10, "... after the time the class names") or diag $took;
	like($session->log_text, qr/WARNING:  TD022: committed here, but region "eu-west" has not confirmed it\n.*at most 2000 ms/s, '... and says what is not known');
	is(counts('us', 'mutual'), '401|1', '... and is counted');
	is($mesh->sql('us', q{SELECT last_ended > now() - interval '1 minute' FROM tide.durability WHERE class = 'mutual'}), 't', '... with its time');
	is($mesh->sql('us', 'SELECT count(*) FROM ring WHERE id = 5000'), 1, '... the row is here');
	is($mesh->sql('eu', 'SELECT count(*) FROM ring WHERE id = 5000'), 0, '... and is not there');

	# What a relay writes for itself would wait as any other commit of this server; it must not.
	my $epoch = $mesh->sql('us', q{SELECT epoch FROM tide.pipeline WHERE name = 'link:eu-west'});
	$mesh->sql('us', q{SET synchronous_commit = local; SET statement_timeout = '30s'; SELECT tide.link_pause('eu-west'); SELECT tide.link_resume('eu-west')});
	ok(defined $mesh->wait_value('us', "SELECT epoch > $epoch AND state = 'running' FROM tide.pipeline WHERE name = 'link:eu-west'", 't'),
		'the relay itself waits for nobody');

	# Two classes in one transaction: the one that waits longer.
	$session = session('us', 'BEGIN; INSERT INTO ring VALUES (5001, 1); INSERT INTO ledger VALUES (5001, 1); COMMIT');
	ok(waiting('us', 1), 'no limit: a commit waits');
	is($mesh->sql('us', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"), 't', '... until it is cancelled');
	is($session->wait_end(20), 0, '... which leaves the commit alone');
	like($session->log_text, qr/WARNING:  TD022: .*\n.*ended early/, '... and is said');
	is(counts('us', 'mutual') . ' ' . counts('us', 'money'), '402|2 ' . (counts('us', 'money') =~ s/\|.*//r) . '|1', '... and counted for both');

	my $money = counts('us', 'money');
	my ($waits) = $money =~ /^(\d+)/;
	$session = session('us', 'INSERT INTO ledger VALUES (5002, 1)');
	ok(waiting('us', 1), 'another one waits');
	$mesh->sql('us', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
	isnt($session->wait_end(20), 0, '... until its session is ended: no answer');
	ok(defined $mesh->wait_value('us', q{SELECT waits, ended FROM tide.durability WHERE class = 'money'}, ($waits + 1) . '|2'), '... counted');

	$session = session('us', 'INSERT INTO ledger VALUES (5003, 1)');
	ok(waiting('us', 1), 'another one waits');
	my $line = $mesh->sql('us', 'SHOW synchronous_standby_names');
	list_standbys('us', '');
	is($session->wait_end(20), 0, '... until somebody takes the peer off the list');
	like($session->log_text, qr/WARNING:  TD022: committed here, but region "eu-west" has not confirmed it/, '... said');
	is(counts('us', 'money'), ($waits + 2) . '|3', '... counted');
	like($mesh->error_of('us', 'INSERT INTO ledger VALUES (5004, 1)'), qr/TD022/, '... and the next one is refused');
	like(doctor('us')->{money}, qr/error: the server does not wait for region "eu-west".*\(set \Q$NAMES = '$line'\E and reload\)/, '... as the doctor says');
	for my $other ("ANY 1 ($line, other)" =~ s/ANY 1 \(ANY 1 \((\w+)\)/ANY 1 ($1/r, '*', 'other')
	{
		list_standbys('us', $other);
		like($mesh->error_of('us', 'INSERT INTO ledger VALUES (5004, 1)'), qr/TD022/, "... with $other, too");
	}
	list_standbys('us', $line);

	# Who answered can't be known when the list may have changed meanwhile.
	$session = session('us', 'INSERT INTO ledger VALUES (5007, 1)');
	ok(waiting('us', 1), 'another one waits');
	$mesh->node('us')->reload;
	$mesh->sql('us', 'SELECT 1');
	$mesh->relay('eu')->thaw;
	is($session->wait_end(20), 0, '... the configuration is loaded again: it waits on');
	like($session->log_text, qr/WARNING:  TD022: /, '... and does not say that it was answered by its peer');
	is(counts('us', 'money'), ($waits + 3) . '|4', '... counted');

	# The peer is gone altogether.
	$mesh->relay('eu')->kill9;
	ok(defined $mesh->wait_value('us', q{SELECT bool_or(connected) FROM tide.durability}, 'f'), 'the peer dies: the view shows it');
	my $doctor = doctor('us');
	like($doctor->{money}, qr/error: region "eu-west" takes no rows from here: commits wait for it/, '... and the doctor');
	like(`$ENV{TIDE_TOP}/build/pg_tide status -d "${\$mesh->node('us')->relay_conninfo}"`, qr/^money +eu-west +yes +no .* 4  \d{4}-/m, '... and the status');
	like($doctor->{money}, qr/warn: 4 wait\(s\) for region "eu-west" ended without its answer/, '... and what it meant');
	my $relay = $mesh->relay('us');
	ok(defined wait_until(sub { ($relay->metric('pg_tide_sync_peer_connected', qr/class="money"/) // 1) == 0 }, 30, 'the metric'), '... and the metrics');
	ok(defined wait_until(sub { $relay->metric('pg_tide_sync_waits_ended_total', qr/peer="eu-west",class="money"/) == 4 }, 30, 'the count'), '... which count what ended');
	is($relay->metric('pg_tide_sync_waits_total', qr/class="mutual"/), 402, '... and what waited');
	$session = session('us', 'INSERT INTO ring VALUES (5006, 1)');
	is($session->wait_end(20), 0, 'a commit waits for its time only');
	is(counts('us', 'mutual'), '403|3', '... and is counted');
	$mesh->start_relay('eu');
	$mesh->settle;
	$mesh->same_tables('when the peer is back, it has what was not confirmed', [qw(ring ledger)]);
	$mesh->sql('us', "INSERT INTO ring VALUES (5005, 1)");
	ok(defined $mesh->wait_value('us', q{SELECT bool_and(connected) FROM tide.durability}, 't'), '... and is shown');
	unlike(doctor('us')->{money}, qr/error/, '... and the doctor has no complaint but what was');
	is(counts('us', 'mutual'), '404|3', '... and commits wait, and are answered, again');
	return;
}

# A limit about as long as the answer takes: whoever comes first, nothing but the wait is ended.
sub test_race
{
	my ($waits, $ended) = split /\|/, counts('us', 'mutual');
	$mesh->sql('us', q{SELECT tide.class_alter('mutual', '{"wait": 0.005}')});
	my @sessions = map { my $from = 10_000 + $_ * 1000;
		session('us', "DO \$\$BEGIN FOR n IN $from .. $from + 299 LOOP INSERT INTO ring VALUES (n, 1); COMMIT; PERFORM count(*) FROM generate_series(1, 100); END LOOP; END\$\$") } 0 .. 3;
	is(join(' ', map { $_->wait_end(60) // 'waits' } @sessions), '0 0 0 0', 'a limit as long as an answer takes ends waits, and nothing else')
	  or diag map { $_->log_text } @sessions;
	my ($later, $more) = split /\|/, counts('us', 'mutual');
	my $said = () = join('', map { $_->log_text } @sessions) =~ /TD022/g;
	is($later - $waits, 1200, '... every commit is counted');
	is($more - $ended, $said, "... and each that ended without an answer ($said) was said to have");
	return;
}

# psql says a row's number once its commit has returned; whatever was said must be in the other region.
sub writers
{
	my ($side, $first) = @_;
	return map {
		my $from = $first + $_ * 10_000;
		my $file = "$ENV{TIDE_DATA}/writer$from.sql";
		open my $out, '>', $file or die "$file: $!";
		print $out map { "INSERT INTO ledger VALUES ($_, 1);\n\\echo $_\n" } $from .. $from + 9_999;
		close $out;
		PgTide::Process->new(
			name => "writer $from", log => "$ENV{TIDE_DATA}/writer$from.log",
			command => [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $mesh->node($side)->connstr('postgres'), '-f', $file ])->start
	} 0 .. 3;
}

sub said { return grep { /^\d+$/ } map { split /\n/, $_->log_text } @_; }

sub missing
{
	my (@ids) = @_;
	return $mesh->sql('eu', 'SELECT count(*) FROM unnest(ARRAY[' . join(',', @ids) . ']::int[]) u (id) WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.id = u.id)');
}

sub test_crash
{
	for my $round (1 .. 4)
	{
		my $victim = $round % 2 ? 'us' : 'eu';
		my @writers = writers('us', $round * 100_000);
		wait_until(sub { said(@writers) >= 100 }, 60, 'commits');
		$mesh->node($victim)->stop('immediate');
		if ($victim eq 'us')
		{
			$_->wait_end(20) for @writers;
		}
		else
		{
			$mesh->node('eu')->start;
			wait_until(sub { said(@writers) >= 300 }, 60, 'commits after the peer was back');
			$_->stop for @writers;
		}
		my @ids = said(@writers);
		cmp_ok(scalar @ids, '>=', 100, "$victim dies: commits had returned");
		is(missing(@ids), 0, '... and every one of them is in the other region');
		$mesh->node($victim)->start if $victim eq 'us';
		ok(defined $mesh->wait_streaming('eu', 'us'), '... which takes rows again');
	}
	$mesh->settle;
	$mesh->same_tables('in the end both have the same', [qw(ledger clicks ring)]);
	return;
}

set_up();
test_wait();
test_kinds();
test_mutual();
test_ended();
test_race();
test_crash();
$mesh->nothing_special('nothing was parked or copied again');
$mesh->stop;
done_testing();
